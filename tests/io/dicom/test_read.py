"""Series of many kinds become the volume they are: judged by F(x, y, z) at every voxel."""

import io

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medssl.errors import InputError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.read import read_dicom_folder
from medssl.io.limits import Limits
from tests import phantoms

AFFINE = phantoms.affine_ras((12, -7, 4))
ARRAY = phantoms.phantom(AFFINE)


def only(folder):
    (found,) = read_dicom_folder(folder)
    return found


def check(found, *, dtype=np.int16, intensity="hu", tolerance=1e-9):
    volume = found.volume
    assert phantoms.value_error(volume.array_IJK, volume.affine_ras) <= tolerance
    assert volume.array_IJK.dtype == dtype
    assert volume.intensity == intensity


@pytest.mark.parametrize("seed", range(3))
def test_names_order_and_instance_numbers_do_not_matter(seed, tmp_path):
    def renumber(ds, k):
        ds.InstanceNumber = (7 * k + seed) % 5

    phantoms.write_dicom(tmp_path, ARRAY, AFFINE, edit=renumber, seed=seed)
    check(only(tmp_path))


@pytest.mark.parametrize("keyword", ["InstanceNumber", "FrameOfReferenceUID", "SliceThickness"])
def test_optional_attributes_may_be_missing(keyword, tmp_path):
    def remove(ds, _):
        if keyword in ds:
            del ds[keyword]

    phantoms.write_dicom(tmp_path, ARRAY, AFFINE, edit=remove)
    check(only(tmp_path))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=str)
def test_compressed_pixels(syntax, tmp_path):
    array = phantoms.phantom(AFFINE, (40, 36, 5))
    phantoms.write_dicom(
        tmp_path, array, AFFINE, edit=lambda ds, _: ds.compress(syntax, generate_instance_uid=False)
    )
    check(only(tmp_path))


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=str
)
def test_other_encodings(syntax, tmp_path):
    def encode(ds, _):
        ds.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
            ds["PixelData"].VR = "OW"

    phantoms.write_dicom(tmp_path, ARRAY, AFFINE, edit=encode)
    check(only(tmp_path))


@pytest.mark.parametrize("implicit", [False, True])
def test_files_without_preamble(implicit, tmp_path):
    for path in phantoms.write_dicom(tmp_path, ARRAY, AFFINE):
        buffer = io.BytesIO()
        ds = dcmread(path)
        del ds.file_meta
        ds.save_as(buffer, implicit_vr=implicit, little_endian=True)
        path.write_bytes(buffer.getvalue())
    check(only(tmp_path))


def test_a_slope_per_slice_is_applied_exactly_once(tmp_path):
    def scale(ds, k):
        slope = 0.5 * (k + 1)
        stored = np.frombuffer(ds.PixelData, np.int16) - 1024
        ds.RescaleSlope, ds.RescaleIntercept = slope, -10.25
        ds.PixelData = np.rint((stored + 10.25) / slope).astype(np.int16).tobytes()

    phantoms.write_dicom(tmp_path, ARRAY, AFFINE, edit=scale)
    found = only(tmp_path)
    check(found, dtype=np.float32, tolerance=1.25)  # half of the coarsest stored step
    slow = np.empty(found.volume.shape)
    for k, header in enumerate(found.slices):
        ds = dcmread(header.path)
        stored = np.frombuffer(ds.PixelData, np.int16).reshape(ds.Rows, ds.Columns).T
        slow[:, :, k] = stored.astype(float) * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    np.testing.assert_allclose(found.volume.array_IJK, slow, rtol=1e-6)


def test_whole_numbers_stay_whole(tmp_path):
    phantoms.write_dicom(tmp_path / "ct", ARRAY, AFFINE)
    check(only(tmp_path / "ct"), dtype=np.int16)
    wide = np.full(phantoms.SHAPE, 60000, np.uint16)
    phantoms.write_dicom(tmp_path / "mr", wide, AFFINE, modality="MR")
    volume = only(tmp_path / "mr").volume
    assert volume.array_IJK.dtype == np.uint16
    assert (volume.array_IJK == 60000).all()
    assert volume.intensity == "arbitrary"


def test_sign_may_change_from_slice_to_slice(tmp_path):
    def alternate(ds, k):
        ds.PixelRepresentation = k % 2

    phantoms.write_dicom(tmp_path, ARRAY, AFFINE, edit=alternate)
    check(only(tmp_path))


def test_bits_above_those_stored_are_ignored(tmp_path):
    def soil(ds, _):
        stored = np.frombuffer(ds.PixelData, np.uint16) & 0x0FFF
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
        ds.PixelData = (stored | 0xA000).tobytes()

    phantoms.write_dicom(tmp_path, ARRAY, AFFINE, edit=soil)
    check(only(tmp_path))


@pytest.mark.parametrize(("signed", "padding"), [(1, -2000), (0, 63536)])
def test_padding_becomes_air_before_it_can_be_rescaled(signed, padding, tmp_path):
    def pad(ds, _):
        stored = np.frombuffer(ds.PixelData, np.int16).copy()
        stored[:3] = -2000  # 63536 when unsigned
        ds.PixelRepresentation, ds.PixelData = signed, stored.tobytes()
        ds.add_new("PixelPaddingValue", "SS" if signed else "US", padding)

    phantoms.write_dicom(tmp_path, ARRAY, AFFINE, edit=pad)
    found = only(tmp_path)
    assert (found.volume.array_IJK[:3, 0, :] == -1000).all()
    np.testing.assert_array_equal(found.volume.array_IJK[3:], ARRAY[3:])
    assert "padding_replaced" in found.flags


def test_padding_written_in_the_wrong_sign_is_understood(tmp_path):
    def pad(ds, _):
        stored = np.frombuffer(ds.PixelData, np.int16).copy()
        stored[:3] = -2000
        ds.PixelData = stored.tobytes()
        ds.add_new("PixelPaddingValue", "US", 63536)

    phantoms.write_dicom(tmp_path, ARRAY, AFFINE, edit=pad)
    assert (only(tmp_path).volume.array_IJK[:3, 0, :] == -1000).all()


def test_over_long_numbers_are_read(tmp_path):
    for path in phantoms.write_dicom(tmp_path, ARRAY, AFFINE):
        ds = dcmread(path)
        places = [f"{float(v):.22f}" for v in ds.ImagePositionPatient]
        raw = "\\".join(places).encode()
        old = ds["ImagePositionPatient"]
        content = path.read_bytes()
        value = "\\".join(map(str, old.value)).encode()
        value += b" " * (len(value) % 2)
        raw += b" " * (len(raw) % 2)
        head = b"\x20\x00\x32\x00DS"
        before = head + len(value).to_bytes(2, "little") + value
        assert before in content
        path.write_bytes(content.replace(before, head + len(raw).to_bytes(2, "little") + raw))
    check(only(tmp_path))


@pytest.mark.parametrize("intercept", [2147483000, -3000000000, 10**10])
def test_a_large_intercept_never_wraps_around(intercept, tmp_path):
    phantoms.write_dicom(
        tmp_path, ARRAY, AFFINE, edit=lambda ds, _: setattr(ds, "RescaleIntercept", str(intercept))
    )
    array = only(tmp_path).volume.array_IJK
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, intercept, rtol=1e-5)


def test_a_folder_of_refused_files_says_why_in_words(tmp_path):
    phantoms.write_dicom(
        tmp_path, ARRAY, AFFINE, edit=lambda ds, _: delattr(ds, "ImagePositionPatient")
    )
    with pytest.raises(InputError, match=r"no_geometry \(5 of 5 slices do not say where"):
        read_dicom_folder(tmp_path)


def test_rescale_values_beyond_any_number_are_refused(tmp_path):
    phantoms.write_dicom(
        tmp_path, ARRAY, AFFINE, edit=lambda ds, _: setattr(ds, "RescaleSlope", "1e300")
    )
    with pytest.raises(InputError, match="not_finite"):
        read_dicom_folder(tmp_path)


def test_a_slope_of_zero_counts_as_one_and_is_flagged(tmp_path):
    phantoms.write_dicom(tmp_path, ARRAY, AFFINE, edit=lambda ds, _: setattr(ds, "RescaleSlope", 0))
    found = only(tmp_path)
    check(found)
    assert "rescale_slope_zero" in found.flags


def test_ct_without_rescale_is_hu_only_when_its_values_are(tmp_path):
    def strip(ds, _):
        ds.PixelData = (np.frombuffer(ds.PixelData, np.int16) - 1024).tobytes()
        del ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType

    phantoms.write_dicom(tmp_path, ARRAY, AFFINE, edit=strip)
    found = only(tmp_path)
    check(found)
    assert "rescale_missing" in found.flags


def test_ct_that_denies_its_offset_is_not_called_hu(tmp_path):
    phantoms.write_dicom(
        tmp_path, ARRAY + 1500, AFFINE, edit=lambda ds, _: setattr(ds, "RescaleIntercept", 0)
    )
    found = only(tmp_path)
    assert found.volume.intensity == "unknown"
    assert "hu_implausible" in found.flags


def test_padding_does_not_make_other_numbers_look_like_hu(tmp_path):
    def pad(ds, _):
        stored = (np.frombuffer(ds.PixelData, np.int16) + 500).copy()
        stored[:12] = -2000
        ds.PixelData = stored.tobytes()
        ds.RescaleIntercept = 0
        ds.add_new("PixelPaddingValue", "SS", -2000)

    phantoms.write_dicom(tmp_path, ARRAY, AFFINE, edit=pad)
    assert only(tmp_path).volume.intensity == "unknown"


def test_inverted_ct_and_derived_series_are_flagged(tmp_path):
    def mark(ds, _):
        ds.PhotometricInterpretation = "MONOCHROME1"
        ds.ImageType = ["DERIVED", "SECONDARY", "MPR"]

    phantoms.write_dicom(tmp_path, ARRAY, AFFINE, edit=mark)
    found = only(tmp_path)
    check(found)
    assert {"monochrome1", "derived"} <= set(found.flags)


def test_jitter_of_positions_and_directions_is_no_irregularity(tmp_path):
    rng = np.random.default_rng(0)

    def shake(ds, _):
        ds.ImagePositionPatient = [
            round(v + rng.uniform(-4e-6, 4e-6), 8) for v in ds.ImagePositionPatient
        ]
        ds.ImageOrientationPatient = [
            round(v + rng.uniform(-3e-5, 3e-5), 8) for v in ds.ImageOrientationPatient
        ]

    phantoms.write_dicom(tmp_path, ARRAY, AFFINE, edit=shake)
    check(only(tmp_path), tolerance=1)


def test_one_cut_slice_condemns_its_series_and_no_other(tmp_path):
    paths = phantoms.write_dicom(tmp_path / "in", ARRAY, AFFINE)
    paths[2].write_bytes(paths[2].read_bytes()[:-10])
    phantoms.write_dicom(tmp_path / "in", ARRAY, AFFINE, seed=1)
    limits, key = Limits(), Pseudonymizer.ephemeral()
    headers = [h for p in (tmp_path / "in").iterdir() for h in read_headers(p, p.name, key, limits)]
    assert sum(header.defect == "truncated_pixel_data" for header in headers) == 1
    found = read_dicom_folder(tmp_path / "in")
    assert len(found) == 1
    with pytest.raises(InputError, match=r"5 file\(s\) were refused, mostly truncated_pixel_data"):
        read_dicom_folder_without(found[0].files, tmp_path / "in")


def read_dicom_folder_without(files, folder):
    for path in files:
        path.unlink()
    return read_dicom_folder(folder)


def test_a_folder_without_dicom_says_so(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match="mostly not_dicom"):
        read_dicom_folder(tmp_path)
    (tmp_path / "notes.txt").unlink()
    with pytest.raises(InputError, match="it holds no files"):
        read_dicom_folder(tmp_path)


def test_files_are_in_the_order_of_the_third_axis(tmp_path):
    phantoms.write_dicom(tmp_path, ARRAY, AFFINE)
    found = only(tmp_path)
    heights = [float(dcmread(path).ImagePositionPatient[2]) for path in found.files]
    assert heights == sorted(heights)
