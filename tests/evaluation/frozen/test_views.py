import math

import numpy as np
import pytest
import torch

from medssl.evaluation.frozen.views import crop_views, describe_views
from medssl.models.encoders.base import Encoder
from medssl.models.encoders.segresnet import SegResNetEncoder

CPU, SIZE = torch.device("cpu"), (8, 8, 8)


class Grey(Encoder):
    """Its map is the input itself, beside a constant: grey values tell places apart."""

    channels, strides, config = (2,), (1,), None

    def features(self, x_BCIJK):
        return [torch.cat([x_BCIJK, torch.full_like(x_BCIJK, 0.5)], dim=1)]


def voxels(seed=0):
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(np.random.default_rng(seed).random((14, 14, 14)), 2)
    return ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


def test_an_encoder_that_sees_nothing_else_finds_the_same_places_through_turns_and_flips():
    encoder = Grey()
    views = crop_views(encoder, SIZE, 1.25)
    still = views.model_copy(update={"appearance": views.unchanged().appearance})
    seen = describe_views(encoder, voxels(), still, np.random.default_rng(3), CPU)
    changed = describe_views(encoder, voxels(), views, np.random.default_rng(3), CPU)
    assert seen["dense_alignment_0"] < 1e-3
    assert seen["dense_alignment_0"] < changed["dense_alignment_0"]
    assert -8 < seen["dense_uniformity_0"] < 0


def test_all_encoders_are_shown_the_same_crops():
    torch.manual_seed(0)
    one, two = (SegResNetEncoder.Config(width=4, blocks=(1, 1)).build().eval() for _ in range(2))
    views = crop_views(one, SIZE, 1.25)
    again = [describe_views(e, voxels(), views, np.random.default_rng(5), CPU) for e in
             (one, one, two)]  # fmt: skip
    assert again[0] == again[1]
    assert again[0].keys() == again[2].keys()
    assert again[0]["view_0"] != again[2]["view_0"]
    assert {"dense_alignment_0", "dense_alignment_1"} <= again[0].keys()


def test_crops_that_share_no_place_have_no_alignment_of_places():
    encoder = Grey()
    views = crop_views(encoder, SIZE, 4.0)
    found = [
        describe_views(encoder, np.pad(voxels(), 10), views, np.random.default_rng(n), CPU)
        for n in range(12)
    ]
    assert any(math.isnan(seen["dense_alignment_0"]) for seen in found)
    assert all(len(seen["view_0"]) == 2 for seen in found)


def test_alignment_of_places_is_the_mean_squared_distance_of_unit_features():
    from medssl.losses.alignment_uniformity import dense_scores

    a = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    b = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    unit = [[row / row.norm() for row in z[0]] for z in (a, b)]
    aligned = np.mean([float(((x - y) ** 2).sum()) for x, y in zip(*unit, strict=True)])
    spread = [
        math.exp(-2 * float(((x - y) ** 2).sum()))
        for n, x in enumerate(unit[0])
        for m, y in enumerate(unit[0])
        if n != m
    ]
    found = dense_scores(a, b)
    assert float(found["dense_alignment"]) == pytest.approx(aligned)
    assert float(found["dense_uniformity"]) == pytest.approx(math.log(np.mean(spread)))
