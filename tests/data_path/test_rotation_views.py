"""Turned views with gaps: what is turned, what is filled, and with whose voxels."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medssl.data.cut_out import CutOutConfig, covered
from medssl.data.dataset import CropDataset, DatasetConfig
from medssl.data.rotation_views import RotationViews, partner_rows
from tests.regions import whole

WHOLE = CutOutConfig(most=0)


def drawn_samples(spec, count=3, seed=0):
    rng = np.random.default_rng(seed)
    regions = [rng.random(spec.region_voxels, dtype=np.float32) + 2 * n for n in range(count)]
    draws = [spec.draw(rng) for _ in regions]
    samples = [spec.cut(whole(r), d) for r, d in zip(regions, draws, strict=True)]
    return regions, draws, samples


@pytest.mark.parametrize(("plane", "axes"), [("IJ", (0, 1)), ("IK", (0, 2)), ("JK", (1, 2))])
def test_each_view_is_the_crop_turned_as_it_says(plane, axes):
    spec = RotationViews(crop_voxels=6, plane=plane, noise=WHOLE, patches=WHOLE)
    regions, _, samples = drawn_samples(spec, count=8)
    batch = spec.collate(samples)
    turns = batch.geometry["quarter_turns_BN"]
    assert set(turns.flatten().tolist()) == {0, 1, 2, 3}
    for row, turn in enumerate(turns.flatten().tolist()):
        expected = regions[row // 2]
        for _ in range(turn):  # one quarter turn, written out: the last plane axis runs back
            expected = np.flip(np.swapaxes(expected, *axes), axes[0])
        for kind in batch.views_BCIJK:
            assert np.array_equal(kind[row, 0].numpy(), expected)


def test_gaps_hold_noise_and_then_the_same_place_of_another_crops_view():
    spec = RotationViews(crop_voxels=12)
    _, draws, samples = drawn_samples(spec)
    batch = spec.collate(samples)
    altered, clean = (kind[:, 0].numpy() for kind in batch.views_BCIJK)
    views = [view for draw in draws for view in draw]
    for row, view in enumerate(views):
        noise, patches = covered(view.noise, (12,) * 3), covered(view.patches, (12,) * 3)
        other = row // 2 + 1 + int(view.partner * 2)
        source = other % 3 * 2 + row % 2
        assert source // 2 != row // 2
        assert np.array_equal(altered[row][patches], clean[source][patches])
        untouched = ~(noise | patches)
        assert np.array_equal(altered[row][untouched], clean[row][untouched])
        assert altered[row][noise & ~patches].max() <= 1
    assert set(batch.geometry) == {"quarter_turns_BN"}


def test_a_batch_is_replayed_by_its_draws_and_leaves_the_samples_alone():
    spec = RotationViews(crop_voxels=8)
    first, second = (drawn_samples(spec)[2] for _ in range(2))
    once, again, other = spec.collate(first), spec.collate(first), spec.collate(second)
    for a, b, c in zip(once.views_BCIJK, again.views_BCIJK, other.views_BCIJK, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_every_other_crop_is_as_likely_a_partner():
    draws = torch.rand(10, 4000, generator=torch.Generator().manual_seed(0)).double()
    rows = torch.stack([partner_rows(draw) for draw in draws.T])
    assert (rows % 2 == torch.arange(10) % 2).all()
    counts = torch.bincount(rows[:, 4] // 2, minlength=5)
    assert counts[2] == 0
    assert counts[[0, 1, 3, 4]].div(4000).sub(0.25).abs().max() < 0.03
    assert partner_rows(torch.tensor([0.0, 1.0])).tolist() == [0, 1]
    assert partner_rows(torch.ones(4)).tolist() == [2, 3, 0, 1]


def test_crops_of_a_sample_lie_anywhere_in_its_volume(make_store, noise):
    store = make_store({"a": noise, "b": noise[::-1]})
    spec = RotationViews(crop_voxels=8, crops=3, noise=WHOLE, patches=WHOLE)
    data = CropDataset(store, spec, DatasetConfig(), samples=4, batch_size=2, seed=0)
    batch = spec.collate([data[0], data[1]])
    assert batch.views_BCIJK[0].shape == (12, 1, 8, 8, 8)
    assert batch.geometry["quarter_turns_BN"].shape == (2, 6)
    means = batch.views_BCIJK[0].mean((1, 2, 3, 4))
    assert len({round(float(mean), 5) for mean in means}) >= 6
    assert [len(names) for names in spec.captions(batch)] == [12, 12]


def test_a_turn_must_keep_the_shape():
    RotationViews(crop_voxels=(4, 6, 6), plane="JK")
    with pytest.raises(ValidationError, match="two lengths in the plane IJ"):
        RotationViews(crop_voxels=(4, 6, 6), plane="IJ")
