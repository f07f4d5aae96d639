"""VoCo learns on real scans: far below the best constant, on volumes it never saw."""

import math

import numpy as np
import pytest

from medssl.training.pretrain import pretrain
from medssl.training.recorder import read_metrics
from tests.regions import whole


def best_constant_of(labels_NK):
    """The lowest intra loss one number for every pair can reach, from the labels alone."""

    def loss(c):
        positive = sum(y * -math.log(1 - abs(y - c) + 1e-6) for row in labels_NK for y in row)
        negative = sum(-math.log(1 - c + 1e-6) for row in labels_NK for y in row if y == 0)
        return positive / labels_NK.sum() + negative / (labels_NK == 0).sum()

    return min(loss(c) for c in np.linspace(0, 0.999, 200))


def bound_of(views):
    """The same, for the labels that a view specification draws."""
    rng, region = np.random.default_rng(0), np.zeros(views.region_voxels, dtype=np.float32)
    cuts = [views.cut(whole(region), views.draw(rng)) for _ in range(200)]
    return best_constant_of(np.concatenate([cut.geometry["position_labels_BNK"] for cut in cuts]))


@pytest.mark.slow
def test_voco_places_crops_of_volumes_it_never_saw(quickstart_config, quickstart_store):
    trained_on = {quickstart_store.entry(k).patient_key for k in quickstart_store.keys("train")}
    unseen = {quickstart_store.entry(k).patient_key for k in quickstart_store.keys("val")}
    assert len(unseen) >= 4
    assert not trained_on & unseen

    config = quickstart_config.pretrain
    bound = bound_of(config.method.views)
    assert bound > 0.5

    result = pretrain(config)
    rows = read_metrics(result.folder / "metrics.jsonl")
    last = [row for row in rows if "val/intra" in row][-1]
    assert last["val/intra_constant"] == pytest.approx(bound, rel=0.1)
    assert last["val/intra"] < 0.30
    assert last["val/nearest_base_accuracy"] > 0.60
    assert last["val/base_cosine"] < 0.5
