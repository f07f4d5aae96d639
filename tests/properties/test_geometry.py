"""Where a voxel lies and what it says: true for every orientation, spacing and file format."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel import orientations

from medssl.io import geometry
from medssl.io.dicom.read import read_dicom_folder
from medssl.io.nifti import read_nifti
from medssl.io.volume import Volume
from tests import phantoms

ORIENTATIONS = [
    "".join(codes) for axes in permutations(("RL", "AP", "SI")) for codes in product(*axes)
]

angles = st.floats(-40, 40)
steps = st.floats(0.3, 6)
affines = st.builds(
    phantoms.affine_ras,
    st.tuples(angles, angles, angles),
    st.tuples(steps, steps, steps),
    st.tuples(*[st.floats(-200, 200)] * 3),
)
shapes = st.tuples(*[st.integers(1, 6)] * 3)


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_round_trips(codes):
    affine = phantoms.affine_ras((8, -6, 5))
    array = phantoms.phantom(affine)
    turned, turned_affine = geometry.reorient(array, affine, codes)
    assert geometry.axis_codes(turned_affine) == codes
    assert phantoms.value_error(turned, turned_affine) == 0
    back, back_affine = geometry.reorient(turned, turned_affine, geometry.axis_codes(affine))
    np.testing.assert_array_equal(back, array)
    np.testing.assert_allclose(back_affine, affine, atol=1e-12)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_of_a_nifti_becomes_the_same_volume(codes, tmp_path):
    affine = phantoms.affine_ras((8, -6, 5))
    expected = geometry.to_closest_ras(
        Volume(array_IJK=phantoms.phantom(affine), affine_ras=affine, modality="MR")
    )
    array, turned = geometry.reorient(phantoms.phantom(affine), affine, codes)
    path = phantoms.write_nifti(tmp_path / "v.nii", array, turned)
    found = geometry.to_closest_ras(read_nifti(path, "MR"))
    np.testing.assert_array_equal(found.array_IJK, expected.array_IJK)
    np.testing.assert_allclose(found.affine_ras, expected.affine_ras, atol=1e-4)  # stored float32


@pytest.mark.parametrize(
    "degrees",
    [(0, 0, 0), (0, 0, 180), (90, 0, 0), (0, 90, 0), (0, 0, 90), (90, 0, 90), (20, -10, 5)],
    ids=str,
)
def test_dicom_and_nifti_of_one_volume_give_the_same_volume(degrees, tmp_path):
    affine = phantoms.affine_ras(degrees)
    array = phantoms.phantom(affine)
    phantoms.write_dicom(tmp_path / "dicom", array, affine)
    nifti = phantoms.write_nifti(tmp_path / "v.nii.gz", array, affine)
    (found,) = read_dicom_folder(tmp_path / "dicom")
    one, other = geometry.to_closest_ras(found.volume), geometry.to_closest_ras(read_nifti(nifti))
    assert phantoms.value_error(one.array_IJK, one.affine_ras) <= 1e-9
    np.testing.assert_array_equal(one.array_IJK, other.array_IJK)
    assert one.array_IJK.dtype == other.array_IJK.dtype == np.int16
    np.testing.assert_allclose(one.affine_ras, other.affine_ras, atol=1e-4)
    assert geometry.axis_codes(one.affine_ras) == "RAS"
    assert found.volume.intensity == "hu"


@given(affine=affines, shape=shapes)
@settings(max_examples=60, deadline=None)
def test_closest_ras_moves_no_voxel(affine, shape):
    volume = Volume(
        array_IJK=phantoms.phantom(affine, shape, np.int32), affine_ras=affine, modality="MR"
    )
    turned = geometry.to_closest_ras(volume)
    assert geometry.axis_codes(turned.affine_ras) == "RAS"
    assert sorted(turned.shape) == sorted(volume.shape)
    assert phantoms.value_error(turned.array_IJK, turned.affine_ras) <= 1  # rounding of F itself
    again = geometry.to_closest_ras(turned)
    np.testing.assert_array_equal(again.array_IJK, turned.array_IJK)
    np.testing.assert_allclose(again.affine_ras, turned.affine_ras, atol=1e-9)


@given(affine=affines)
@settings(max_examples=60, deadline=None)
def test_spacing_and_shear_against_their_slow_twins(affine):
    slow = [sum(affine[row, axis] ** 2 for row in range(3)) ** 0.5 for axis in range(3)]
    np.testing.assert_allclose(geometry.spacing_mm(affine), slow, rtol=1e-12)
    assert geometry.shear_degrees(affine) < 1e-5


@given(affine=affines, tilt=st.floats(0.2, 40))
@settings(max_examples=40, deadline=None)
def test_shear_is_the_angle_that_was_put_in(affine, tilt):
    sheared = affine.copy()
    row, normal = (affine[:3, axis] / np.linalg.norm(affine[:3, axis]) for axis in (0, 2))
    sheared[:3, 2] = normal * np.cos(np.radians(tilt)) + row * np.sin(np.radians(tilt))
    assert geometry.shear_degrees(sheared) == pytest.approx(tilt, abs=1e-6)


@given(affine=affines)
@settings(max_examples=40, deadline=None)
def test_lps_to_ras_turns_x_and_y_and_undoes_itself(affine):
    point = np.array([1.0, 2.0, 3.0, 1.0])
    lps, ras = affine @ point, geometry.lps_to_ras(affine) @ point
    np.testing.assert_allclose(ras, lps * (-1, -1, 1, 1))
    np.testing.assert_allclose(geometry.lps_to_ras(geometry.lps_to_ras(affine)), affine)


def test_axis_codes_agree_with_nibabel():
    affine = phantoms.affine_ras((30, 20, 10))
    assert geometry.axis_codes(affine) == "".join(orientations.aff2axcodes(affine)) == "LPS"
