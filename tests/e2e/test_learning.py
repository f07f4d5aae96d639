"""VoCo learns on real scans: far below the best constant, on volumes it never saw."""

import math

import numpy as np

from medssl.training.callbacks import read_metrics
from medssl.training.pretrain import pretrain


def best_constant_of(labels_NK):
    """The lowest intra loss one number for every pair can reach, from the labels alone."""

    def loss(c):
        positive = sum(y * -math.log(1 - abs(y - c) + 1e-6) for row in labels_NK for y in row)
        negative = sum(-math.log(1 - c + 1e-6) for row in labels_NK for y in row if y == 0)
        return positive / labels_NK.sum() + negative / (labels_NK == 0).sum()

    return min(loss(c) for c in np.linspace(0, 0.999, 200))


def test_voco_places_crops_of_volumes_it_never_saw(quickstart_config, quickstart_store):
    """A third of the quickstart's steps; the quickstart itself is held to the same numbers."""
    config = quickstart_config.pretrain
    trained_on = {quickstart_store.entry(k).patient_key for k in quickstart_store.keys("train")}
    unseen = {quickstart_store.entry(k).patient_key for k in quickstart_store.keys("val")}
    assert len(unseen) >= 4
    assert not trained_on & unseen

    views, rng = config.method.views, np.random.default_rng(0)
    region = np.zeros(views.region_voxels, dtype=np.float32)
    labels_NK = np.concatenate(
        [views.cut(region, views.draw(rng)).geometry["position_labels_BNK"] for _ in range(50)]
    )
    bound = best_constant_of(labels_NK)
    assert 0.5 < bound < 0.6

    short = config.model_copy(
        update={"schedule": config.schedule.model_copy(update={"steps": 150})}
    )
    result = pretrain(short)
    rows = [row for row in read_metrics(result.folder / "metrics.jsonl") if "val/intra" in row]
    assert rows[-1]["val/intra_constant"] > 0.9 * bound
    assert rows[-1]["val/intra"] < 0.30
    assert rows[-1]["val/nearest_base_accuracy"] > 0.60
    assert rows[-1]["val/base_cosine"] < 0.5
