from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from medssl.curation import verification as v
from medssl.curation.edges import NearDuplicateConfig
from tests.curation.libraries import altered, blobs, deformed, read_shipped, resampled

LIMITS = NearDuplicateConfig()
REAL = ["ct/kits_p72_chest", "ct/gehead_p01_head", "mr/ms_p12_T1W", "mr/btp_p01_t2"]


@pytest.fixture(params=REAL)
def real(request, shipped):
    return read_shipped(shipped / "nifti" / f"{request.param}.nii.gz")


def slow_ncc(a, b, is_body):
    """Full Gaussian sums in float64, voxel by voxel."""
    weights = {}
    for sigma in v.BAND_VOXELS:
        radius = int(4 * sigma + 0.5)
        kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
        weights[sigma] = (radius, kernel / kernel.sum())

    def smooth(array, sigma):
        radius, kernel = weights[sigma]
        out = array.astype(np.float64)
        for axis in range(3):
            padded = np.pad(
                out, [(radius, radius) if x == axis else (0, 0) for x in range(3)], "edge"
            )
            out = sum(
                w * np.take(padded, range(k, k + array.shape[axis]), axis=axis)
                for k, w in enumerate(kernel)
            )
        return out

    fa, fb = ((smooth(x, 1.2) - smooth(x, 5.0))[is_body] for x in (a, b))
    return np.corrcoef(fa, fb)[0, 1]


def test_ncc_equals_its_slow_twin():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 12, 10, 9))
    b += a
    is_body = rng.random(a.shape) < 0.5
    assert v.band_passed_ncc(a, b, is_body) == pytest.approx(slow_ncc(a, b, is_body), abs=1e-12)


def test_ncc_is_unknown_where_there_is_nothing_to_compare():
    a = np.random.default_rng(0).normal(size=(10, 10, 10))
    everywhere = np.ones(a.shape, dtype=bool)
    assert np.isnan(v.band_passed_ncc(a, np.zeros_like(a), everywhere))
    assert np.isnan(v.band_passed_ncc(a, a, ~everywhere))


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
    scores = {name: v.compare(real, copy).score for name, copy in copies.items()}
    assert min(scores.values()) >= LIMITS.copy_ncc, scores
    assert min(scores["coarser"], scores["finer"]) >= LIMITS.same_patient_ncc, scores


def test_a_header_that_lies_about_spacing_and_origin_hides_nothing(real):
    copy = resampled(real, 1.4)
    lying = replace(copy, affine_ras=np.eye(4))
    found = v.compare(real, lying)
    assert not found.ncc_physical > 0.5
    assert found.ncc_index >= LIMITS.same_patient_ncc


def test_a_wider_field_of_view_is_compared_where_both_have_voxels(real):
    start = [n // 10 for n in real.shape[:2]]
    cut = real.array_IJK[start[0] :, start[1] :]
    affine = real.affine_ras.copy()
    affine[:3, 3] = real.affine_ras[:3] @ np.array([*start, 0, 1.0])
    found = v.compare(real, replace(real, array_IJK=cut, affine_ras=affine))
    assert found.ncc_physical >= LIMITS.same_patient_ncc


def test_follow_ups_of_real_volumes_stay_below_the_threshold(real):
    assert v.compare(real, deformed(real, by_mm=3.0)).score < LIMITS.copy_ncc
    assert v.compare(real, deformed(real, by_mm=1.5)).score < LIMITS.same_patient_ncc


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
