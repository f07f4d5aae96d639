"""VoCo's views: what is cut is what the labels say."""

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from medssl.data.augment import AugmentConfig, CropChange
from medssl.data.grid_views import GridViews
from tests.regions import whole

STILL = AugmentConfig(flip_probability=0, rotate_probability=0, shift_probability=0)


@pytest.fixture
def region():
    return np.random.default_rng(0).random((12, 8, 5), dtype=np.float32)


def views(**changes):
    return GridViews(grid=(3, 2, 1), crop_voxels=(4, 4, 5), random_crops=6, **changes)


def test_crops_are_the_drawn_boxes(region):
    spec = views(augment=STILL)
    assert spec.region_voxels == region.shape
    drawn = spec.draw(np.random.default_rng(1))
    random_NCIJK, base_NCIJK = spec.cut(whole(region), drawn).views_BCIJK
    for crop_IJK, (i, j, k) in zip(random_NCIJK[:, 0], drawn.starts_N3, strict=True):
        assert (crop_IJK == region[i : i + 4, j : j + 4, k : k + 5]).all()
    assert (base_NCIJK[3, 0] == region[4:8, 4:8]).all(), "row 3 is cell (1, 1, 0)"


def test_labels_are_the_share_of_voxels_found_in_each_base_crop():
    """Number every voxel of the region, and count where a crop's numbers turn up again."""
    spec = views(augment=STILL)
    numbers_IJK = np.arange(12 * 8 * 5, dtype=np.float32).reshape(12, 8, 5)
    sample = spec.cut(whole(numbers_IJK), spec.draw(np.random.default_rng(2)))
    random_NCIJK, base_KCIJK = sample.views_BCIJK
    counted = [[np.isin(crop, base).mean() for base in base_KCIJK] for crop in random_NCIJK]
    labels_NK = sample.geometry["position_labels_BNK"]
    assert labels_NK.dtype == np.float32
    np.testing.assert_allclose(labels_NK, counted, atol=1e-6)


def test_augmentation_changes_pixels_and_no_label(region):
    changed = views(augment=AugmentConfig(flip_probability=1, shift_probability=1))
    a = changed.cut(whole(region), changed.draw(np.random.default_rng(3)))
    still = views(augment=STILL)
    b = still.cut(whole(region), still.draw(np.random.default_rng(3)))
    assert not np.allclose(a.views_BCIJK[0], b.views_BCIJK[0])
    labels, unchanged = (x.geometry["position_labels_BNK"] for x in (a, b))
    assert (labels == unchanged).all()


def test_every_crop_is_changed_on_its_own():
    spec = GridViews(random_crops=8, augment=AugmentConfig(shift_probability=1))
    drawn = spec.draw(np.random.default_rng(0))
    shifts = {change.shift for change in (*drawn.random_changes, *drawn.base_changes)}
    assert len(shifts) == 8 + 9


def test_one_draw_cuts_the_same_views_every_time(region):
    spec = views()
    drawn = spec.draw(np.random.default_rng(4))
    a, b = spec.cut(whole(region), drawn), spec.cut(whole(region), drawn)
    assert all((x == y).all() for x, y in zip(a.views_BCIJK, b.views_BCIJK, strict=True))


def test_a_region_of_another_size_is_a_bug_and_says_so(region):
    spec = GridViews()
    with pytest.raises(ValueError, match=r"\(12, 8, 5\), expected \(72, 72, 24\)"):
        spec.cut(whole(region), spec.draw(np.random.default_rng(0)))


def test_a_resolved_spec_loads_back_as_itself():
    spec = views()
    assert GridViews.model_validate(spec.model_dump(mode="json")) == spec


def test_an_empty_grid_is_refused():
    with pytest.raises(ValidationError, match="greater than 0"):
        GridViews(grid=(3, 0, 1))


def test_a_changed_region_is_cut_as_if_it_had_always_looked_so(region):
    """Labels stay true to content: boxes that share voxels before the change share them after."""
    always = AugmentConfig(flip_probability=1, rotate_probability=0, shift_probability=0)
    spec = views(augment=STILL, augment_region=always)
    drawn = spec.draw(np.random.default_rng(4))
    sample = spec.cut(whole(region), drawn)
    mirrored = views(augment=STILL).cut(whole(np.flip(region)), drawn_without_change(drawn))
    for found, expected in zip(sample.views_BCIJK, mirrored.views_BCIJK, strict=True):
        np.testing.assert_array_equal(found, expected)
    numbers_IJK = np.arange(region.size, dtype=np.float32).reshape(region.shape)
    random_NCIJK, base_KCIJK = spec.cut(whole(numbers_IJK), drawn).views_BCIJK
    counted = [[np.isin(crop, base).mean() for base in base_KCIJK] for crop in random_NCIJK]
    np.testing.assert_allclose(sample.geometry["position_labels_BNK"], counted, atol=1e-6)


def drawn_without_change(drawn):
    still = CropChange(flips=(False, False, False), quarter_turns=0, shift=0.0)
    return dataclasses.replace(drawn, region_change=still)


def test_resized_crops_are_interpolated_between_their_corners(region):
    """The slow way: every voxel of the view by its eight neighbours in the cut crop."""
    plain, resized = views(augment=STILL), views(augment=STILL, resize_to=(6, 6, 3))
    drawn = resized.draw(np.random.default_rng(1))
    assert resized.region_voxels == plain.region_voxels
    assert (drawn.starts_N3 == plain.draw(np.random.default_rng(1)).starts_N3).all()
    cut, found = plain.cut(whole(region), drawn), resized.cut(whole(region), drawn)
    for crops, smaller in zip(cut.views_BCIJK, found.views_BCIJK, strict=True):
        assert smaller.shape[1:] == (1, 6, 6, 3)
        for at in np.ndindex(6, 6, 3):
            place = [
                x * (n - 1) / (m - 1) for x, n, m in zip(at, (4, 4, 5), (6, 6, 3), strict=True)
            ]
            expected = np.zeros(len(crops))
            for corner in np.ndindex(2, 2, 2):
                low = np.floor(place).astype(int)
                index = np.minimum(low + corner, (3, 3, 4))
                share = np.where(corner, place - low, 1 - (place - low)).prod()
                expected += share * crops[(slice(None), 0, *index)]
            np.testing.assert_allclose(smaller[(slice(None), 0, *at)], expected, atol=1e-5)
    name = "position_labels_BNK"
    assert (cut.geometry[name] == found.geometry[name]).all()


def test_the_published_grid_of_4_by_4_has_labels_that_sum_to_one():
    spec = GridViews(grid=(4, 4, 1), crop_voxels=6, resize_to=4, random_crops=2)
    region = np.random.default_rng(0).random(spec.region_voxels, dtype=np.float32)
    sample = spec.cut(whole(region), spec.draw(np.random.default_rng(0)))
    assert [v.shape for v in sample.views_BCIJK] == [(2, 1, 4, 4, 4), (16, 1, 4, 4, 4)]
    np.testing.assert_allclose(sample.geometry["position_labels_BNK"].sum(1), 1, atol=1e-6)


def test_unchanged_views_have_no_augmentation_left(region):
    loud = AugmentConfig(flip_probability=1, rotate_probability=1, shift_probability=1)
    quiet = views(augment=loud, augment_region=loud).unchanged()
    drawn = quiet.draw(np.random.default_rng(5))
    still = views(augment=STILL).cut(whole(region), drawn_without_change(drawn))
    for found, expected in zip(
        quiet.cut(whole(region), drawn).views_BCIJK, still.views_BCIJK, strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("resize_to", [None, 9, 4])
def test_every_voxel_of_a_crop_is_traced_to_where_it_was_cut(resize_to):
    turned = AugmentConfig(flip_probability=0.5, rotate_probability=0.7, shift_probability=0)
    spec = GridViews(grid=(2, 2, 1), crop_voxels=6, resize_to=resize_to, augment=turned)
    drawn = spec.draw(np.random.default_rng(0))
    samples = [
        spec.cut(whole(index_IJK), drawn)
        for index_IJK in np.indices(spec.region_voxels, dtype=np.float32)
    ]
    for kind in range(2):
        seen_N3IJK = np.concatenate([s.views_BCIJK[kind] for s in samples], axis=1)
        affines_N34 = samples[0].geometry[f"region_from_view_{kind}_BN34"]
        index_3X = np.indices(seen_N3IJK.shape[2:]).reshape(3, -1)
        for seen_3IJK, affine_34 in zip(seen_N3IJK, affines_N34, strict=True):
            expected_3X = affine_34[:, :3] @ index_3X + affine_34[:, 3:]
            np.testing.assert_allclose(seen_3IJK.reshape(3, -1), expected_3X, atol=1e-4)
