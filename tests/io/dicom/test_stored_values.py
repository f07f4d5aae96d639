"""MONOCHROME1, padding and slopes of zero: in every modality, encoding and layout alike."""

import numpy as np
import pytest
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    JPEGLSLossless,
    PositronEmissionTomographyImageStorage,
    RLELossless,
)

from medssl.io.dicom.read import read_dicom_folder
from medssl.io.hounsfield import AIR_HU
from tests import phantoms

AFFINE = phantoms.affine_ras()
ARRAY = phantoms.phantom(AFFINE)
CLASSES = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage}


def written(folder, modality, edit, *, syntax=None, enhanced=False):
    """Write F as one series; return it as it is read."""
    slices = phantoms.dicom_slices(ARRAY, AFFINE, modality=modality, edit=edit)
    files = [phantoms.enhanced(slices, CLASSES[modality])] if enhanced else slices
    for ds in files:
        if syntax is not None:
            ds.compress(syntax)
    phantoms.save(files, folder)
    (found,) = read_dicom_folder(folder)
    return found


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("syntax", [None, RLELossless])
@pytest.mark.parametrize("enhanced", [False, True])
def test_monochrome1_changes_how_a_scan_is_shown_and_not_what_it_is(
    modality, syntax, enhanced, tmp_path
):
    def edit(ds, _):
        ds.PhotometricInterpretation = "MONOCHROME1"

    found = written(tmp_path, modality, edit, syntax=syntax, enhanced=enhanced)
    assert "monochrome1" in found.flags
    assert phantoms.value_error(found.volume.array_IJK, found.volume.affine_ras) == 0


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless])
@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize(
    ("modality", "signed", "values", "outside"),
    [
        ("CT", True, (-2000, -2000), AIR_HU),
        ("CT", False, (63536, 63536), AIR_HU),
        ("CT", True, (-2000, -1990), AIR_HU),
        ("CT", True, (-1990, -2000), AIR_HU),
        ("MR", True, (-2000, -2000), 0),
        ("MR", False, (63536, 63536), 0),
    ],
)
def test_padding_becomes_air_or_nothing(
    modality, signed, values, outside, syntax, enhanced, tmp_path
):
    def edit(ds, k):
        stored = np.frombuffer(ds.PixelData, np.int16).astype(np.int16 if signed else np.uint16)
        if modality == "MR":  # no negative values are stored
            stored += 1000
            ds.RescaleSlope, ds.RescaleIntercept = 1, -1000
        stored[: k + 2] = values[k % 2]
        ds.PixelData = stored.tobytes()
        ds.PixelRepresentation = int(signed)
        ds.add_new("PixelPaddingValue", "SS" if signed else "US", values[0])
        if values[0] != values[1]:
            ds.add_new("PixelPaddingRangeLimit", "SS" if signed else "US", values[1])

    found = written(tmp_path, modality, edit, syntax=syntax, enhanced=enhanced)
    assert "padding_replaced" in found.flags
    array = found.volume.array_IJK
    columns, rows, slices = array.shape
    flat = array.transpose(2, 1, 0).reshape(slices, rows * columns).copy()
    expected = phantoms.field_hu(phantoms.points_mm(found.volume.affine_ras, array.shape))
    wanted = expected.transpose(2, 1, 0).reshape(slices, rows * columns)
    for k in range(slices):
        assert (flat[k, : k + 2] == outside).all()
        np.testing.assert_array_equal(flat[k, k + 2 :], wanted[k, k + 2 :])


def test_a_padding_value_no_pixel_has_changes_nothing(tmp_path):
    found = written(tmp_path, "CT", lambda ds, _: ds.add_new("PixelPaddingValue", "SS", -2000))
    assert "padding_replaced" not in found.flags
    assert phantoms.value_error(found.volume.array_IJK, found.volume.affine_ras) == 0


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
@pytest.mark.parametrize("intercept", [0, 17])
def test_a_slope_of_zero_is_read_as_one_and_keeps_the_intercept(modality, intercept, tmp_path):
    def edit(ds, _):
        stored = np.frombuffer(ds.PixelData, np.int16) + (0 if modality == "CT" else -intercept)
        ds.PixelData = stored.astype(np.int16).tobytes()
        ds.RescaleSlope = 0
        if modality != "CT":
            ds.RescaleIntercept = intercept
        if modality == "PT":
            ds.SOPClassUID, ds.Units = PositronEmissionTomographyImageStorage, "CNTS"

    found = written(tmp_path, modality, edit)
    assert "rescale_slope_zero" in found.flags
    assert phantoms.value_error(found.volume.array_IJK, found.volume.affine_ras) == 0
