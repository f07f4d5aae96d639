"""Crops know where they come from: through zoom, turns and flips, every voxel is traced back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medssl.data.appearance import AppearanceConfig
from medssl.data.augment import AugmentConfig, never
from medssl.data.crop_views import CropViews
from medssl.data.views import Region
from tests.regions import whole

TURNS = AugmentConfig(flip_probability=0.5, rotate_probability=0.7, shift_probability=0)
STILL = never(AppearanceConfig)


def coordinates(shape):
    """Volumes whose voxels hold their own I, J and K index."""
    return np.indices(shape, dtype=np.float32)


@given(seed=st.integers(0, 2**31), dims=st.sampled_from([2, 3]), zoomed=st.booleans())
@settings(max_examples=60)
def test_every_voxel_of_a_view_is_traced_to_where_it_was_cut(seed, dims, zoomed):
    spec = CropViews(
        dims=dims,
        crop_voxels=(8, 8, 6),
        spread=2,
        zoom=(0.7, 1.5) if zoomed else (1, 1),
        local_crops=1,
        local_voxels=4,
        augment=TURNS,
        appearance=STILL,
    )
    drawn = spec.draw(np.random.default_rng(seed))
    samples = [spec.cut(whole(part), drawn) for part in coordinates(spec.region_voxels)]
    for kind in range(2):
        seen_3N = np.stack([s.views_BCIJK[kind][:, 0] for s in samples])
        for n in range(seen_3N.shape[1]):
            affine_34 = samples[0].geometry[f"region_from_view_{kind}_BN34"][n]
            view_3IJK = seen_3N[:, n] if dims == 3 else seen_3N[:, n, ..., None]
            inside = tuple(
                slice(1, -1) if size > 2 else slice(None) for size in view_3IJK.shape[1:]
            )
            index_3X = np.indices(view_3IJK.shape[1:])[(slice(None), *inside)].reshape(3, -1)
            expected_3X = affine_34[:, :3] @ index_3X + affine_34[:, 3:]
            found_3X = view_3IJK[(slice(None), *inside)].reshape(3, -1)
            np.testing.assert_allclose(found_3X, expected_3X, atol=1e-3)


def test_places_are_shares_of_the_volume():
    spec = CropViews(crop_voxels=4, spread=1, augment=TURNS, appearance=STILL)
    region = Region(np.zeros((4, 4, 4), np.float32), (6, 0, -2), (16, 4, 8))
    places = spec.cut(region, spec.draw(np.random.default_rng(0))).geometry["place_0_BN3"]
    np.testing.assert_allclose(places, [[0.5, 0.5, 0.0]] * 2)


def test_crops_stay_in_the_region_and_are_replayed_by_their_draw():
    spec = CropViews(crop_voxels=6, spread=1.5, zoom=(0.8, 2), local_crops=3, local_voxels=4)
    region = whole(np.random.default_rng(0).random(spec.region_voxels, dtype=np.float32))
    drawn = spec.draw(np.random.default_rng(1))
    first, second = spec.cut(region, drawn), spec.cut(region, drawn)
    for a, b, count in zip(first.views_BCIJK, second.views_BCIJK, (2, 3), strict=True):
        assert len(a) == count
        assert np.array_equal(a, b)
    for view in (view for kind in drawn for view in kind):
        ends = np.add(view.start_IJK, view.size_IJK)
        assert (ends <= spec.region_voxels).all()


def test_unchanged_views_show_the_region_as_it_is():
    spec = CropViews(crop_voxels=4, spread=1).unchanged()
    region_IJK = np.random.default_rng(0).random((4, 4, 4), dtype=np.float32)
    sample = spec.cut(whole(region_IJK), spec.draw(np.random.default_rng(0)))
    assert np.array_equal(sample.views_BCIJK[0][0, 0], region_IJK)


def test_captions_name_every_view():
    spec = CropViews(crop_voxels=4, local_crops=2, local_voxels=2)
    rng = np.random.default_rng(0)
    region = whole(np.zeros(spec.region_voxels, np.float32))
    batch = spec.collate([spec.cut(region, spec.draw(rng)) for _ in range(3)])
    assert [len(names) for names in spec.captions(batch)] == [6, 6]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"zoom": (2, 1)}, "must rise from low to high"),
        ({"zoom": (0.5, 1)}, "raise spread, or the lower zoom"),
        ({"local_crops": 1, "local_voxels": 99}, "more than the region"),
    ],
)
def test_boxes_that_cannot_be_cut_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        CropViews(**options)
