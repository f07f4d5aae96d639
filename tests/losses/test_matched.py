"""Matched places: the same anatomy in both views, features read there, InfoNCE by definition."""

import math

import numpy as np
import pytest
import torch

from medssl.data.appearance import AppearanceConfig
from medssl.data.augment import AugmentConfig, never
from medssl.data.crop_views import CropViews
from medssl.losses import matched
from tests.regions import whole

T = 0.2
TURNS = AugmentConfig(flip_probability=0.5, rotate_probability=0.7, shift_probability=0)


def two_views(dims=3, seed=0, spread=1.5, samples=4):
    """Views of volumes whose three channels are the voxel's own indices, and the affines."""
    spec = CropViews(
        dims=dims,
        crop_voxels=(8, 8, 6),
        spread=spread,
        zoom=(0.8, 1.5),
        augment=TURNS,
        appearance=never(AppearanceConfig),
    )
    rng = np.random.default_rng(seed)
    draws = [spec.draw(rng) for _ in range(samples)]
    channels = []
    for index_IJK in np.indices(spec.region_voxels, dtype=np.float32):
        batch = spec.collate([spec.cut(whole(index_IJK), draw) for draw in draws])
        channels.append(batch.views_BCIJK[0])
    views = torch.cat(channels, dim=1).unflatten(0, (samples, 2))
    affine = batch.geometry["region_from_view_0_BN34"]
    return views[:, 0], views[:, 1], affine[:, 0], affine[:, 1], (8, 8, 6 if dims == 3 else 1)


@pytest.mark.parametrize("dims", [2, 3])
def test_places_show_the_same_voxel_of_the_region_in_both_views(dims):
    first, second, a, b, shape = two_views(dims)
    torch.manual_seed(0)
    places = matched.shared_places(a, b, shape, 64)
    shared = places.shared_P
    assert shared.sum() >= 3
    places = matched.Places(*(part[shared] for part in places))
    for view, voxels in ((first[shared], places.first_PN3), (second[shared], places.second_PN3)):
        size = torch.tensor(shape)
        assert (voxels > -0.5 - 1e-4).all()
        assert (voxels < size - 0.5 + 1e-4).all()
        found = matched.features_at(view, voxels, shape)
        # within a voxel of the border there is nothing to interpolate with
        inside = ((voxels > 0.99) & (voxels < size - 1.99))[..., :dims].all(-1)
        assert inside.float().mean() > 0.1
        difference = (found - places.region_PN3)[..., :dims][inside]
        assert difference.abs().max() < 0.05


def test_places_are_spread_over_all_that_is_shared_and_over_nothing_else():
    _, _, a, b, shape = two_views()
    torch.manual_seed(0)
    places = matched.shared_places(a, b, shape, 500)
    (low_a, high_a), (low_b, high_b) = matched.box(a, shape), matched.box(b, shape)
    low, high = torch.maximum(low_a, low_b), torch.minimum(high_a, high_b)
    share = ((places.region_PN3 - low[:, None]) / (high - low)[:, None])[places.shared_P]
    assert share.min() >= 0
    assert share.max() <= 1
    for axis in range(3):
        counts = torch.histc(share[0, :, axis], bins=5, min=0, max=1)
        assert counts.tolist() == pytest.approx([100] * 5, abs=10)
    nearest = torch.cdist(share[0], share[0]).fill_diagonal_(9).min()
    drawn = torch.rand(500, 3)
    assert nearest > 3 * torch.cdist(drawn, drawn).fill_diagonal_(9).min()


def test_the_same_views_have_the_same_places_and_others_have_others():
    _, _, a, b, shape = two_views(spread=1.5)
    places = matched.shared_places(a, b, shape, 5).region_PN3
    torch.testing.assert_close(matched.shared_places(a[1:], b[1:], shape, 5)[0], places[1:])
    assert (places[0] - places[1]).abs().max() > 0.1


def test_views_that_share_nothing_are_known():
    affine = torch.eye(3, 4)[None].repeat(2, 1, 1)
    other = affine.clone()
    other[0, 0, 3] = 8.0
    places = matched.shared_places(affine, other, (8, 8, 8), 5)
    assert places.shared_P.tolist() == [False, True]
    assert all(part.isfinite().all() for part in places[:3])


@pytest.mark.parametrize("dims", [2, 3])
def test_a_coarser_map_is_read_where_its_voxels_lie(dims):
    shape = (8, 4, 6)[:dims]
    fine = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij"))
    pool = torch.nn.functional.avg_pool2d if dims == 2 else torch.nn.functional.avg_pool3d
    coarse = pool(fine[None], 2)
    voxels = torch.tensor([[[2.5, 1.2, 3.0], [1.0, 2.0, 4.0]]])
    full = (*shape, 1) if dims == 2 else shape
    found = matched.features_at(coarse, voxels, full)
    torch.testing.assert_close(found[..., :dims], voxels[..., :dims])


@pytest.mark.parametrize("autocast", [False, True])
def test_a_map_in_halves_is_read_at_the_same_places(autocast):
    side = 96
    across = (
        torch.arange(side, dtype=torch.float32)[None, None, :, None, None] % 8
    )  # exact in halves
    map_halves = across.expand(1, 1, side, 2, 2).bfloat16()
    voxels = torch.tensor([[[16.25, 0.5, 0.5], [80.75, 0.5, 0.5], [90.375, 0.5, 0.5]]])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = matched.features_at(map_halves, voxels, (side, 2, 2))
    assert found[0, :, 0].tolist() == pytest.approx([0.25, 0.75, 2.375], abs=1e-3)


def slow_info_nce(a, b, keys):
    """Both directions; ``keys(p, n)`` are the (pair, place) that place n of pair p meets."""
    ua, ub = (x / x.norm(dim=2, keepdim=True) for x in (a, b))
    total, terms = 0.0, 0
    for p in range(a.shape[0]):
        for n in range(a.shape[1]):
            for one, two in ((ua, ub), (ub, ua)):
                top = (one[p, n] @ two[p, n] / T).exp()
                rest = sum((one[p, n] @ two[q, m] / T).exp() for q, m in keys(p, n))
                total = total - torch.log(top / (top + rest))
                terms += 1
    return total / terms


def dense(pairs=3, count=6, dim=5):
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, pairs, count, dim, generator=generator, dtype=torch.float64)
    region = torch.rand(pairs, count, 3, generator=generator, dtype=torch.float64) * 4
    shared = torch.ones(pairs, dtype=torch.bool)
    places = matched.Places(region, region, region, shared)
    return a.requires_grad_(), b.requires_grad_(), places


@pytest.mark.parametrize("apart", [0.0, 2.0])
@pytest.mark.parametrize("negatives", ["image", "batch"])
def test_contrast_is_info_nce_place_by_place(negatives, apart):
    a, b, places = dense()

    def keys(p, n):
        pairs = [p] if negatives == "image" else range(3)
        for q in pairs:
            for m in range(6):
                near = (places.region_PN3[p, n] - places.region_PN3[q, m]).norm() < apart
                if (q, m) != (p, n) and not (q == p and near):
                    yield q, m

    fast = matched.matched_contrast(a, b, places, T, negatives=negatives, apart=apart)
    slow = slow_info_nce(a, b, keys)
    torch.testing.assert_close(fast, slow)
    for x in (a, b):
        torch.testing.assert_close(
            *(torch.autograd.grad(loss, x, retain_graph=True)[0] for loss in (fast, slow))
        )


@pytest.mark.parametrize("negatives", ["image", "batch"])
def test_pairs_that_share_nothing_change_nothing(negatives):
    a, b, places = dense()
    shared = torch.tensor([True, True, False])
    with_it = matched.matched_contrast(
        a, b, places._replace(shared_P=shared), T, negatives=negatives
    )
    without = matched.matched_contrast(
        a[:2], b[:2], matched.Places(*(part[:2] for part in places)), T, negatives=negatives
    )
    torch.testing.assert_close(with_it, without)
    none = places._replace(shared_P=torch.zeros(3, dtype=torch.bool))
    assert matched.matched_contrast(a, b, none, T, negatives=negatives) == 0


@pytest.mark.parametrize("negatives", ["image", "batch"])
def test_equal_features_cost_the_closed_form(negatives):
    _, _, places = dense()
    same = torch.ones(3, 6, 5, dtype=torch.float64)
    fast = matched.matched_contrast(same, same, places, T, negatives=negatives)
    expected = math.log(6 if negatives == "image" else 18)
    assert float(fast) == pytest.approx(expected)
    assert matched.collapsed(3, 6, negatives) == pytest.approx(expected)


def test_scores_say_how_alike_places_are_and_how_often_they_are_found():
    a = torch.eye(4).expand(2, 4, 4)
    b = a.clone()
    b[1, [0, 1]] = b[1, [1, 0]]
    scores = matched.scores(a, b)
    assert float(scores["match_accuracy"]) == 6 / 8
    assert float(scores["positive_cosine"]) == 6 / 8
    assert float(scores["negative_cosine"]) == pytest.approx(2 / 24)
