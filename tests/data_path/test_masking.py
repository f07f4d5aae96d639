"""Masks: as many cells as asked for, replayed by their draw, in pieces that divide the crop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medssl.data.crop_views import CropViews
from medssl.data.masked_views import MaskedViews
from medssl.data.masking import MaskConfig, draw_visible
from tests.regions import whole

SHAPES = st.sampled_from(["random", "blocks"])
GRIDS = st.sampled_from([(4, 4), (3, 5, 2), (6, 6, 6), (1, 1, 1), (8, 1, 3)])


@given(seed=st.integers(0, 2**31), shape=SHAPES, cells=GRIDS, ratio=st.floats(0, 1))
@settings(max_examples=100)
def test_the_share_that_is_hidden_is_met_exactly(seed, shape, cells, ratio):
    config = MaskConfig(ratio=(ratio, ratio), shape=shape)
    visible = draw_visible(config, cells, np.random.default_rng(seed))
    assert visible.shape == cells
    assert (~visible).sum() == round(ratio * visible.size)
    again = draw_visible(config, cells, np.random.default_rng(seed))
    assert np.array_equal(visible, again)


def test_every_cell_is_hidden_equally_often_by_random_masks():
    rng = np.random.default_rng(0)
    config = MaskConfig(ratio=(0.5, 0.5))
    hidden = np.mean([~draw_visible(config, (3, 3, 3), rng) for _ in range(2000)], axis=0)
    np.testing.assert_allclose(hidden, 0.5, atol=0.05)


def test_blocks_hide_neighbours_together():
    def neighbours(shape):
        rng, alike = np.random.default_rng(0), []
        for _ in range(50):
            visible = draw_visible(MaskConfig(ratio=(0.3, 0.3), shape=shape), (8, 8, 8), rng)
            alike.append((visible[1:] == visible[:-1]).mean())
        return np.mean(alike)

    assert neighbours("blocks") > neighbours("random") + 0.15


def test_some_views_stay_whole_and_the_others_vary():
    rng = np.random.default_rng(0)
    config = MaskConfig(ratio=(0.1, 0.5), probability=0.5)
    shares = np.array([(~draw_visible(config, (6, 6, 6), rng)).mean() for _ in range(400)])
    assert (shares == 0).mean() == pytest.approx(0.5, abs=0.08)
    assert 0.09 < shares[shares > 0].min() < 0.15
    assert 0.45 < shares.max() < 0.51


@pytest.mark.parametrize(
    ("options", "fixed"),
    [({}, True), ({"ratio": (0.1, 0.5)}, False), ({"probability": 0.5}, False)],
)
def test_whether_rows_hide_equally_many_is_known(options, fixed):
    assert MaskConfig(**options).fixed is fixed


@pytest.mark.parametrize("dims", [2, 3])
def test_masks_come_beside_the_crops_and_are_replayed(dims):
    spec = MaskedViews(
        crops=CropViews(dims=dims, crop_voxels=8, local_crops=1, local_voxels=4),
        mask=MaskConfig(cell_voxels=2, ratio=(0.25, 0.25)),
    )
    rng = np.random.default_rng(0)
    region = whole(rng.random(spec.region_voxels, dtype=np.float32))
    drawn = spec.draw(rng)
    samples = [spec.cut(region, drawn) for _ in range(2)]
    batch = spec.collate(samples)
    visible = batch.geometry["visible_0_BNIJK"]
    assert visible.shape == (2, 2, *(4,) * dims)
    assert (visible[0] == visible[1]).all()
    assert np.array_equal(samples[0].views_BCIJK[0], spec.crops.cut(region, drawn.crops)[0][0])
    assert {"place_0_BN3", "place_1_BN3", "region_from_view_0_BN34"} <= set(batch.geometry)
    crops, local = spec.captions(batch)
    assert crops[0].endswith("25% hidden")
    assert [len(crops), len(local)] == [4, 2]


def test_unchanged_crops_are_still_hidden_in_part():
    spec = MaskedViews(mask=MaskConfig(cell_voxels=4)).unchanged()
    assert spec.mask.ratio == (0.6, 0.6)
    assert spec.crops.appearance.noise_probability == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": {"cell_voxels": 5}}, "does not divide a crop"),
        ({"mask": {"ratio": (0.6, 0.5)}}, "must rise from low to high"),
    ],
)
def test_masks_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        MaskedViews(**options)
