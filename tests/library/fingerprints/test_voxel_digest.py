import struct

import nibabel as nib
import numpy as np
import pytest
import xxhash

from medssl.library.fingerprints import slice_digest
from medssl.library.fingerprints.canonical import LEVELS
from medssl.library.fingerprints.slice_digest import slice_digests
from medssl.library.fingerprints.voxel_digest import SPEC, voxel_digest, voxel_digests

RNG = np.random.default_rng(3)
CT_IJK = RNG.integers(-1024, 3000, (7, 6, 5)).astype(np.int16)
MR_IJK = RNG.integers(0, 900, (7, 6, 5)).astype(np.int16)
MR_IJK[0, 0, :3] = 0
IS_AIR = MR_IJK == 0
PADDING = CT_IJK < -1000


def slow_digest(array_IJK, intensity):
    """One voxel at a time, in float64."""
    count_I, count_J, count_K = array_IJK.shape
    digest = xxhash.xxh3_128(f"{SPEC}/{intensity}/{array_IJK.shape}".encode())
    low, high = float(array_IJK.min()), float(array_IJK.max())
    for k in range(count_K):
        plane = xxhash.xxh3_128(f"{slice_digest.SPEC}/{intensity}/{(count_I, count_J)}".encode())
        for j in reversed(range(count_J)):
            for i in reversed(range(count_I)):
                value = float(array_IJK[i, j, k])
                if intensity == "hu":
                    plane.update(struct.pack("<h", round(min(max(value, -1024), 3071))))
                else:
                    step = round((value - low) * LEVELS / (high - low))
                    plane.update(struct.pack("<i", step))
        digest.update(plane.digest())
    return digest.hexdigest()


@pytest.mark.parametrize(("array", "intensity"), [(CT_IJK, "hu"), (MR_IJK, "arbitrary")])
def test_equals_its_slow_twin(array, intensity):
    assert voxel_digest(array, intensity) == slow_digest(array, intensity)


def test_golden_values():
    ramp_IJK = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    assert voxel_digest(ramp_IJK, "hu")[:16] == "a557b4e739066eb1"
    assert voxel_digest(ramp_IJK, "arbitrary")[:16] == "3adea36475c35eeb"


@pytest.mark.parametrize(
    ("change", "copy"),
    [
        ("float32", CT_IJK.astype(np.float32)),
        ("float64 with rounding noise", CT_IJK + 1e-6),
        ("big endian", CT_IJK.astype(">i2")),
        ("Fortran order", np.asfortranarray(CT_IJK)),
        ("metal clipped at 12 bits", np.minimum(CT_IJK, 3071)),
        ("padding below air", np.where(PADDING, -2000, CT_IJK)),
    ],
)
def test_hu_copies_share_a_digest(change, copy):
    air_IJK = np.where(PADDING, -1024, CT_IJK)
    copy = np.where(PADDING, np.minimum(copy, -1024), copy)
    assert voxel_digest(copy, "hu") == voxel_digest(air_IJK, "hu"), change


@pytest.mark.parametrize(
    ("change", "copy"),
    [
        ("uint16 with an offset", (MR_IJK + 1024).astype(np.uint16)),
        ("float32", MR_IJK.astype(np.float32)),
        ("a slope", MR_IJK * 0.37 + 11.5),
        ("a hole in the air", np.where(IS_AIR & (np.indices(MR_IJK.shape)[2] < 2), np.nan, MR_IJK)),
    ],
)
def test_arbitrary_copies_share_a_digest(change, copy):
    assert voxel_digest(copy, "arbitrary") == voxel_digest(MR_IJK, "arbitrary"), change


@pytest.mark.parametrize("axcodes", ["LPS", "RAS", "SAL", "IPR"])
def test_survives_flips_and_permutations_and_rewritten_spacing(axcodes):
    wanted = nib.orientations.axcodes2ornt(axcodes)
    stored = nib.Nifti1Image(CT_IJK, np.eye(4)).as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), wanted)
    )
    lying = nib.Nifti1Image(
        np.asarray(stored.dataobj), stored.affine @ np.diag([0.7, 0.7, 5.0, 1.0])
    )
    canonical_IJK = np.asarray(nib.as_closest_canonical(lying).dataobj)
    assert voxel_digest(canonical_IJK, "hu") == voxel_digest(CT_IJK, "hu")


@pytest.mark.parametrize("intensity", ["hu", "arbitrary"])
def test_one_different_voxel_is_another_volume(intensity):
    other = CT_IJK.copy()
    other[3, 3, 3] += 1 if other[3, 3, 3] < 2000 else -1
    assert voxel_digest(other, intensity) != voxel_digest(CT_IJK, intensity)


def test_shape_and_kind_of_intensity_are_part_of_it():
    assert voxel_digest(CT_IJK.reshape(6, 7, 5), "hu") != voxel_digest(CT_IJK, "hu")
    assert voxel_digest(CT_IJK, "arbitrary") != voxel_digest(CT_IJK, "hu")


@pytest.mark.parametrize("value", [0.0, np.nan, 7.0])
def test_constant_volumes_have_a_digest(value):
    constant = np.full((2, 3, 4), value)
    assert voxel_digest(constant, "arbitrary") == voxel_digest(np.zeros((2, 3, 4)), "arbitrary")


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("array", "intensity"), [(CT_IJK, "hu"), (MR_IJK, "arbitrary")])
def test_both_digests_at_once_are_those_of_each_alone(array, intensity, axis):
    found = voxel_digests(array, intensity, axis)
    assert found.volume == voxel_digest(array, intensity)
    assert list(found.slices) == slice_digests(array, intensity, axis)
