from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from medssl.curation import verification as v
from medssl.curation.edges import NearDuplicateConfig
from tests.curation.libraries import altered, blobs, deformed, read_shipped, resampled, sliced

LIMITS = NearDuplicateConfig()
REAL = ["ct/kits_p72_chest", "ct/gehead_p01_head", "mr/ms_p12_T1W", "mr/btp_p01_t2"]


@pytest.fixture(params=REAL)
def real(request, shipped):
    return read_shipped(shipped / "nifti" / f"{request.param}.nii.gz")


def test_copies_of_real_volumes_reach_the_threshold(real):
    array = real.array_IJK.astype(np.float64)
    noise = np.random.default_rng(0).normal(0, 0.05 * array.std(), array.shape)
    copies = {
        "coarser": resampled(real, 1.4),
        "finer": resampled(real, 0.8),
        "sharp kernel": altered(real, 2 * array - ndimage.gaussian_filter(array, 1) + noise),
        "gain and offset": replace(real, array_IJK=(array * 3 + 7).astype(np.float32))
        if real.intensity == "arbitrary"
        else altered(real, array),
    }
    found = {name: v.compare(real, copy) for name, copy in copies.items()}
    noisy = found.pop("sharp kernel")  # so much noise that headers are needed to be sure
    assert noisy.score >= LIMITS.same_acquisition_ncc
    assert noisy.motion_voxels < 0.15
    assert min(x.score for x in found.values()) >= 0.998, found
    coarser = found.pop("coarser")
    assert coarser.motion_voxels <= LIMITS.same_patient_motion_voxels
    # Interpolating between thick slices seems to move a little: it may stay undecided.
    assert max(x.motion_voxels for x in found.values()) < 0.08, found


def test_a_header_that_lies_about_spacing_and_origin_hides_nothing(real):
    copy = resampled(real, 1.4)
    lying = replace(copy, affine_ras=np.eye(4))
    found = v.compare(real, lying)
    assert not found.ncc_physical > 0.5
    assert found.score >= LIMITS.same_patient_ncc
    assert (found.share_a, found.share_b) == (1.0, 1.0)


def test_a_wider_field_of_view_is_compared_where_both_have_voxels(real):
    start = [n // 10 for n in real.shape[:2]]
    cut = real.array_IJK[start[0] :, start[1] :]
    affine = real.affine_ras.copy()
    affine[:3, 3] = real.affine_ras[:3] @ np.array([*start, 0, 1.0])
    found = v.compare(real, replace(real, array_IJK=cut, affine_ras=affine))
    assert found.ncc_physical >= LIMITS.same_patient_ncc


def test_follow_ups_of_real_volumes_have_moved(real):
    for by_mm in (1.5, 3.0):
        found = v.compare(real, deformed(real, by_mm=by_mm))
        assert found.motion_voxels > LIMITS.copy_motion_voxels
    assert v.compare(real, deformed(real, by_mm=3.0)).score < LIMITS.copy_ncc


def test_a_part_says_how_much_of_the_whole_it_is(real):
    count = real.shape[2]
    part = sliced(real, count // 4, count)
    found = v.compare(real, part)
    assert found.score == pytest.approx(1.0, abs=2e-3)
    assert found.share_a == pytest.approx(1 - (count // 4) / count, abs=0.02)
    assert found.share_b == pytest.approx(1.0, abs=0.02)


def test_slices_in_common_are_a_place_where_headers_lie(real):
    count = real.shape[2]
    start = count // 4
    lying = replace(sliced(real, start, count), affine_ras=np.diag([9.0, 1.0, 1.0, 1.0]))
    assert v.compare(real, lying).score < 0.9
    found = v.compare(real, lying, v.Shared(axis=2, offset=-start))
    assert found.ncc_slices == 1.0
    assert found.score >= LIMITS.same_patient_ncc
    assert (found.share_a, found.share_b) == (pytest.approx(1 - start / count, abs=1e-4), 1.0)
    other_way = v.compare(lying, real, v.Shared(axis=2, offset=start))
    assert (other_way.share_a, other_way.share_b) == (found.share_b, found.share_a)


def test_too_few_slices_in_common_are_no_place():
    a = blobs(0)
    assert np.isnan(v.compare(a, a, v.Shared(axis=2, offset=a.shape[2] - 2)).ncc_slices)


@pytest.mark.parametrize(("low", "high"), [(-160, 240), (-75, 175), (-500, 1300)])
def test_eight_bits_of_a_window_are_compared_in_that_window(real, low, high):
    if real.intensity != "hu":
        pytest.skip("windows are of Hounsfield units")
    grey = np.clip((real.array_IJK.astype(float) - low) / (high - low), 0, 1) * 255
    copy = replace(real, array_IJK=np.rint(grey).astype(np.uint8), intensity="arbitrary")
    found = v.compare(real, copy)
    assert found.score >= 0.98
    assert v.compare(copy, real).score == pytest.approx(found.score, abs=0.01)


def test_which_of_the_two_comes_first_does_not_matter(real):
    copy = resampled(real, 1.4)
    one, other = v.compare(real, copy), v.compare(copy, real)
    assert (one.score, one.motion_voxels) == pytest.approx(
        (other.score, other.motion_voxels), abs=5e-3
    )


def test_a_large_volume_is_averaged_first_and_scores_alike(monkeypatch, real):
    copy = resampled(real, 1.4)
    whole = v.compare(real, copy)
    monkeypatch.setattr(v, "MAX_VOXELS", 20)
    assert max(v.prepare(real).block) > 1
    small = v.compare(real, copy)
    assert small.score >= 0.99
    assert whole.score >= LIMITS.copy_ncc


@pytest.mark.parametrize(("a", "b"), [("t1post", "t2"), ("t1post", "flair"), ("t2", "flair")])
def test_registered_contrasts_of_one_patient_stay_below_the_threshold(shipped, a, b):
    first, second = (read_shipped(shipped / "nifti/mr" / f"btp_p01_{x}.nii.gz") for x in (a, b))
    assert v.compare(first, second).score < LIMITS.copy_ncc - 0.02


def test_different_patients_do_not_even_share_a_split(shipped):
    names = ["ms_p03_FLAIR", "ms_p01_FLAIR", "ms_p04_T1W", "ms_p12_T1W", "mni_p00_T1W"]
    volumes = [read_shipped(shipped / "nifti/mr" / f"{name}.nii.gz") for name in names]
    scores = [v.compare(a, b).score for i, a in enumerate(volumes) for b in volumes[:i]]
    assert max(scores) < LIMITS.link_ncc - 0.1


def test_fields_of_view_that_hardly_overlap_are_not_compared_in_millimetres():
    a = blobs(0)
    far = a.affine_ras.copy()
    far[0, 3] = 60.0
    assert np.isnan(v.compare(a, replace(a, affine_ras=far)).ncc_physical)


def test_single_slices_have_no_score():
    flat = replace(blobs(0), array_IJK=blobs(0).array_IJK[:, :, :1])
    assert v.compare(flat, flat).score == -1.0


def test_bone_that_is_cut_off_does_not_hide_that_a_smooth_kernel_is_a_copy(monkeypatch):
    sharp = blobs(1, (48, 46, 40))
    array = sharp.array_IJK.astype(np.float64)
    for i, j, k in np.random.default_rng(0).integers(6, 34, (40, 3)):
        array[i : i + 2, j : j + 2, k : k + 2] = 3000  # above HU_RANGE: denser than most bone
    sharp = altered(sharp, array)
    smooth = altered(sharp, ndimage.gaussian_filter(array, 0.8))
    found = v.compare(sharp, smooth)
    assert found.score >= LIMITS.copy_ncc
    assert found.motion_voxels <= LIMITS.copy_motion_voxels
    monkeypatch.setattr(v, "CUT_OFF_LEVEL", 1 << 20)
    assert v.compare(sharp, smooth).score < LIMITS.copy_ncc


def test_where_most_is_cut_off_motion_is_still_known(monkeypatch):
    scan = blobs(1, (30, 28, 20))
    array = scan.array_IJK.copy()
    array[:24:4, ::4, ::4] = 3000
    scan = altered(scan, array)
    copy = altered(scan, ndimage.gaussian_filter(array.astype(np.float64), (0.3, 0.3, 0)))
    assert v.compare(scan, copy).motion_voxels <= LIMITS.copy_motion_voxels
    looked_at = []
    look = v._score_and_motion
    monkeypatch.setattr(v, "_score_and_motion", lambda *x: looked_at.append(look(*x)) or look(*x))
    v.compare(scan, copy)
    first, second = looked_at
    assert np.isnan(first[1])
    assert second[1] <= LIMITS.copy_motion_voxels
