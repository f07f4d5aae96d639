"""NIfTI: what is read is what was written, and every doubtful header is refused."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from medssl.errors import RejectedFileError
from medssl.io.limits import IrregularPolicy, Limits
from medssl.io.nifti import read_nifti, read_nifti_checked, read_nifti_volumes, write_nifti
from medssl.io.volume import Volume
from tests import bad_files, phantoms

AFFINE = phantoms.affine_ras((5, 10, -3))
ARRAY = phantoms.phantom(AFFINE)


def refusal(path, limits=None):
    with pytest.raises(RejectedFileError) as caught:
        read_nifti(path, limits=limits)
    return caught.value.code


def saved(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_what_is_written_is_read(name, dtype, tmp_path):
    array = (np.arange(ARRAY.size).reshape(ARRAY.shape) % 200).astype(dtype)
    write_nifti(array, AFFINE, tmp_path / name)
    found = read_nifti(tmp_path / name, "MR")
    assert found.array_IJK.dtype == dtype
    np.testing.assert_array_equal(found.array_IJK, array)
    np.testing.assert_allclose(found.affine_ras, AFFINE, atol=1e-5)
    image = nib.load(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(image.dataobj), array)
    np.testing.assert_allclose(image.get_qform(coded=True)[0], AFFINE, atol=1e-4)
    assert image.header["descrip"].item() == image.header["aux_file"].item() == b""


def test_a_volume_is_written_as_it_is_and_the_same_bytes_each_time(tmp_path):
    volume = Volume(array_IJK=ARRAY, affine_ras=AFFINE, modality="CT", intensity="hu")
    write_nifti(volume, None, tmp_path / "a.nii.gz")
    write_nifti(ARRAY, AFFINE, tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    with pytest.raises(ValueError, match="affine_ras"):
        write_nifti(ARRAY, None, tmp_path / "c.nii")


def test_a_resampled_volume_says_that_it_is_not_as_scanned(tmp_path):
    for regularized, code in (((), 1), (("tilt",), 2)):
        volume = Volume(array_IJK=ARRAY, affine_ras=AFFINE, modality="CT", regularized=regularized)
        write_nifti(volume, None, tmp_path / "v.nii")
        header = nib.load(tmp_path / "v.nii").header
        assert header["sform_code"] == header["qform_code"] == code


def test_masks_and_wide_integers_can_be_written(tmp_path):
    write_nifti(ARRAY > 0, AFFINE, tmp_path / "mask.nii")
    assert read_nifti(tmp_path / "mask.nii").array_IJK.dtype == np.uint8
    write_nifti(ARRAY.astype(np.int64), AFFINE, tmp_path / "wide.nii")
    assert read_nifti(tmp_path / "wide.nii").array_IJK.dtype == np.int16


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", "<>")
def test_both_versions_and_byte_orders(kind, order, tmp_path):
    header = kind.header_class(endianness=order)
    header.set_data_dtype(ARRAY.dtype.newbyteorder(order))
    image = kind(ARRAY, AFFINE, header)
    path = saved(tmp_path / "v.nii", image.to_bytes())
    np.testing.assert_array_equal(read_nifti(path).array_IJK, ARRAY)
    path = saved(tmp_path / "v.nii.gz", gzip.compress(image.to_bytes()))
    np.testing.assert_array_equal(read_nifti(path).array_IJK, ARRAY)


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [
        (1, -1024, np.int16),
        (1, 0, np.int16),
        (0.5, -3, np.float32),
        (0, 7, np.int16),
        (np.nan, 0, np.int16),
    ],
)
def test_scale_is_applied_exactly_once(slope, intercept, dtype, tmp_path):
    content = bad_files.nifti_bytes(ARRAY, AFFINE, scl_slope=slope, scl_inter=intercept)
    found = read_nifti(saved(tmp_path / "v.nii", content)).array_IJK
    none = slope == 0 or np.isnan(slope)
    expected = ARRAY.astype(float) * (1 if none else slope) + (0 if none else intercept)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == dtype


def test_sform_counts_and_a_different_qform_is_flagged(tmp_path):
    image = nib.Nifti1Image(ARRAY, AFFINE)
    other = AFFINE.copy()
    other[:3, 3] += 5
    image.set_sform(AFFINE, 1)
    image.set_qform(other, 1)
    found = read_nifti_checked(saved(tmp_path / "v.nii", image.to_bytes()), "MR", Limits())
    np.testing.assert_allclose(found.volume.affine_ras, AFFINE, atol=1e-5)
    assert found.flags == ("sform_qform_differ",)
    content = bad_files.nifti_bytes(ARRAY, AFFINE, sform_code=0)
    found = read_nifti_checked(saved(tmp_path / "q.nii", content), "MR", Limits())
    np.testing.assert_allclose(found.volume.affine_ras, AFFINE, atol=1e-4)


def test_units_are_honoured(tmp_path):
    affine = AFFINE.copy()
    affine[:3] *= 1000
    image = nib.Nifti1Image(ARRAY, affine)
    image.header.set_xyzt_units("micron")
    path = saved(tmp_path / "v.nii", image.to_bytes())
    np.testing.assert_allclose(read_nifti(path).affine_ras, AFFINE, rtol=1e-5, atol=1e-5)


def test_ct_is_hu_only_where_its_values_can_be(tmp_path):
    path = phantoms.write_nifti(tmp_path / "hu.nii", ARRAY, AFFINE)
    assert read_nifti(path, "CT").intensity == "hu"
    assert read_nifti(path, "MR").intensity == "arbitrary"
    path = phantoms.write_nifti(tmp_path / "shifted.nii", ARRAY + 1024, AFFINE)
    found = read_nifti_checked(path, "CT", Limits())
    assert (found.volume.intensity, found.flags) == ("unknown", ("hu_implausible",))
    assert "modality_unknown" in read_nifti_checked(path, "unknown", Limits()).flags


def test_a_few_voxels_that_are_no_numbers_become_the_lowest(tmp_path):
    array = ARRAY.astype(np.float32)
    array[0, 0, 0], array[1, 0, 0] = np.nan, np.inf
    path = phantoms.write_nifti(tmp_path / "v.nii", array, AFFINE)
    found = read_nifti_checked(path, "MR", Limits())
    assert (
        found.volume.array_IJK[0, 0, 0]
        == found.volume.array_IJK[1, 0, 0]
        == ARRAY.ravel()[2:].min()
    )
    assert found.flags == ("not_finite_replaced",)


@pytest.mark.parametrize("intercept", [1e10, 1e30, 3e38])
def test_a_huge_intercept_is_neither_wrapped_nor_a_crash(intercept, tmp_path):
    content = bad_files.nifti_bytes(ARRAY, AFFINE, scl_slope=1, scl_inter=intercept)
    found = read_nifti(saved(tmp_path / "v.nii", content)).array_IJK
    np.testing.assert_allclose(found, np.full(ARRAY.shape, intercept), rtol=1e-5)


def test_a_last_axis_of_one_is_no_fourth(tmp_path):
    path = phantoms.write_nifti(tmp_path / "v.nii", ARRAY[..., None], AFFINE)
    assert read_nifti(path).shape == ARRAY.shape


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"vox_offset": 348}, "bad_offset"),
        ({"vox_offset": 1e6}, "bad_offset"),
        ({"vox_offset": 1e30}, "bad_offset"),
        ({"vox_offset": np.nan}, "damaged_header"),
        ({"dim": [9, 7, 6, 5, 1, 1, 1, 1]}, "bad_dimensions"),
        ({"dim": [3, 7, 0, 5, 1, 1, 1, 1]}, "bad_dimensions"),
        ({"dim": [5, 7, 6, 5, 1, 3, 1, 1]}, "complex_values"),
        ({"datatype": 9999}, "unsupported_datatype"),
        ({"magic": b"xyz"}, "damaged_header"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "bad_affine"),
        ({"srow_x": [1e3, 0, 0, 0]}, "bad_affine"),
        ({"sform_code": 0, "pixdim": [1, 0, 2, 3, 1, 1, 1, 1]}, "bad_affine"),
        ({"sform_code": 0, "quatern_b": 3.0}, "bad_affine"),
    ],
    ids=str,
)
def test_headers_that_cannot_be_true(header, code, tmp_path):
    content = bad_files.nifti_bytes(ARRAY, phantoms.affine_ras(), **header)
    assert refusal(saved(tmp_path / "v.nii", content)) == code


def test_a_bad_qform_beside_a_good_sform_does_no_harm(tmp_path):
    content = bad_files.nifti_bytes(ARRAY, AFFINE, quatern_b=3.0)
    np.testing.assert_array_equal(read_nifti(saved(tmp_path / "v.nii", content)).array_IJK, ARRAY)


@pytest.mark.parametrize("left", [0, 10, 347, 351, 352, 600])
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_cut_anywhere_is_refused(left, packed, tmp_path):
    content = bad_files.nifti_bytes(ARRAY, AFFINE)[:left]
    path = saved(tmp_path / "v.nii", gzip.compress(content) if packed else content)
    assert refusal(path) in {"damaged_header", "truncated_file", "bad_offset"}


@pytest.mark.parametrize("missing", [1, 4, 8, 9, 100])
def test_a_gzip_stream_cut_anywhere_is_refused(missing, tmp_path):
    content = gzip.compress(bad_files.nifti_bytes(ARRAY, AFFINE))[:-missing]
    assert refusal(saved(tmp_path / "v.nii.gz", content)) in {
        "truncated_file",
        "damaged_compression",
    }


def test_nothing_is_allocated_for_a_header_that_boasts(tmp_path):
    content = bad_files.nifti_bytes(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    assert refusal(saved(tmp_path / "v.nii", content)) == "too_large"
    content = bad_files.nifti_bytes(ARRAY, AFFINE)
    assert refusal(saved(tmp_path / "v.nii", content), Limits(volume_bytes=100)) == "too_large"


SERIES = np.stack([ARRAY, ARRAY + 100, ARRAY + 200], axis=3)


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_fourth_axis_is_one_volume_after_the_other(name, kind, tmp_path):
    content = kind(SERIES, AFFINE).to_bytes()
    path = saved(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    found = list(read_nifti_volumes(path, "MR", Limits()))
    assert [one.split_by for one in found] == [
        ("time_point=1",),
        ("time_point=2",),
        ("time_point=3",),
    ]
    for number, one in enumerate(found):
        np.testing.assert_array_equal(one.volume.array_IJK, SERIES[..., number])
        np.testing.assert_allclose(one.volume.affine_ras, AFFINE, atol=1e-5)


def test_a_time_series_is_no_single_volume_and_has_a_limit(tmp_path):
    path = phantoms.write_nifti(tmp_path / "v.nii", SERIES, AFFINE)
    assert refusal(path) == "time_series"
    for policy in ({"most_volumes": 2}, {"time_series": "skip"}):
        limits = Limits(policy=IrregularPolicy(**policy))
        with pytest.raises(RejectedFileError, match="3 images of each place") as caught:
            list(read_nifti_volumes(path, "MR", limits))
        assert caught.value.skipped


def test_all_volumes_of_a_file_together_count_against_the_limit(tmp_path):
    path = phantoms.write_nifti(tmp_path / "v.nii", SERIES, AFFINE)
    assert len(list(read_nifti_volumes(path, "MR", Limits(SERIES.nbytes)))) == 3
    with pytest.raises(RejectedFileError, match="announces 0 MiB of voxels, more than"):
        next(read_nifti_volumes(path, "MR", Limits(SERIES.nbytes - 1)))


def test_damage_at_the_end_of_a_time_series_shows_before_its_last_volume(tmp_path):
    packed = bytearray(gzip.compress(nib.Nifti1Image(SERIES, AFFINE).to_bytes()))
    packed[-6] ^= 0xFF
    volumes = read_nifti_volumes(saved(tmp_path / "v.nii.gz", bytes(packed)), "MR", Limits())
    assert [next(volumes).split_by, next(volumes).split_by] == [
        ("time_point=1",),
        ("time_point=2",),
    ]
    with pytest.raises(RejectedFileError, match="gzip stream"):
        next(volumes)


def sheared_file(path):
    affine = AFFINE.copy()
    affine[:3, 2] += 0.3 * affine[:3, 1]
    return phantoms.write_nifti(path, phantoms.phantom(affine, dtype=np.float32), affine)


def test_sheared_axes_become_a_box_and_the_plain_reader_refuses_them(tmp_path):
    path = sheared_file(tmp_path / "v.nii")
    found = read_nifti_checked(path, "MR", Limits())
    volume = found.volume
    assert volume.regularized == ("shear",)
    assert found.flags == ("sform_qform_differ", "shear_resampled")  # no qform can be sheared
    inside = volume.array_IJK != volume.array_IJK.min()
    truth = phantoms.field_hu(phantoms.points_mm(volume.affine_ras, volume.shape))
    assert np.abs(volume.array_IJK - truth)[inside].max() <= 1  # F is rounded twice
    assert inside.sum() >= 7 * 5 * 5
    assert refusal(path) == "sheared_affine"
    assert refusal(path, Limits(policy=IrregularPolicy(shear="quarantine"))) == "sheared_affine"
    size = 7 * 6 * 5 * 4
    assert refusal(path, Limits(volume_bytes=size)) == "too_large"


def test_axes_that_are_nearly_at_right_angles_stay_as_they_are(tmp_path):
    affine = AFFINE.copy()
    affine[:3, 2] += 5e-4 * affine[:3, 1]
    path = phantoms.write_nifti(tmp_path / "v.nii", ARRAY, affine)
    found = read_nifti_checked(path, "MR", Limits()).volume
    np.testing.assert_array_equal(found.array_IJK, ARRAY)
    assert found.regularized == ()


def test_frames_that_differ_are_refused_where_that_is_the_policy(tmp_path):
    path = saved(tmp_path / "v.nii", bad_files.nifti_bytes(ARRAY, AFFINE, qoffset_x=50.0))
    assert "sform_qform_differ" in read_nifti_checked(path, "MR", Limits()).flags
    strict = Limits(policy=IrregularPolicy(frames_differ="quarantine"))
    assert refusal(path, strict) == "frames_differ"


def test_axes_are_assumed_only_on_request(tmp_path):
    unsaid = {"sform_code": 0, "qform_code": 0}
    path = saved(tmp_path / "v.nii", bad_files.nifti_bytes(ARRAY, AFFINE, **unsaid))
    assert refusal(path) == "no_orientation"
    trusting = Limits(policy=IrregularPolicy(nifti_assume_ras=True))
    found = read_nifti_checked(path, "MR", trusting)
    np.testing.assert_allclose(found.volume.affine_ras, np.diag([1.5, 2, 3, 1]), atol=1e-6)
    assert "orientation_assumed" in found.flags
    unsized = bad_files.nifti_bytes(ARRAY, AFFINE, **unsaid, pixdim=[1, 0, 2, 3, 1, 1, 1, 1])
    assert refusal(saved(tmp_path / "w.nii", unsized), trusting) == "bad_affine"


def test_a_single_slice_is_a_volume_where_that_is_allowed(tmp_path):
    path = phantoms.write_nifti(tmp_path / "v.nii", ARRAY[:, :, :1], AFFINE)
    assert refusal(path) == "too_few_slices"
    assert read_nifti(path, limits=Limits(least_slices=1)).shape == (7, 6, 1)
