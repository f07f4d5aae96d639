"""Pixels read straight from the file are those a general reader returns, to the bit."""

import dataclasses

import numpy as np
import pytest
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.pixels import stack_pixels
from medssl.io.limits import Limits
from tests import phantoms

AFFINE, SHAPE = phantoms.affine_ras(), (7, 6, 2)
KEY, LIMITS = Pseudonymizer.ephemeral(), Limits(least_slices=1)


def headers_of(folder, edit, **options):
    slices = phantoms.dicom_slices(phantoms.phantom(AFFINE, SHAPE), AFFINE, edit=edit)
    if syntax := options.pop("syntax", None):
        for ds in slices:
            ds.file_meta.TransferSyntaxUID = syntax
            if syntax == ExplicitVRBigEndian:
                ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    return [
        header
        for path in sorted(phantoms.save(slices, folder))
        for header in read_headers(path, "k", KEY, LIMITS)
    ]


def both_ways(headers):
    general = [dataclasses.replace(header, pixels_start=None) for header in headers]
    return stack_pixels(headers, LIMITS), stack_pixels(general, LIMITS)


def assert_alike(headers):
    fast, slow = both_ways(headers)
    assert fast.array_IJK.dtype == slow.array_IJK.dtype
    np.testing.assert_array_equal(fast.array_IJK, slow.array_IJK)
    assert (fast.intensity, fast.flags) == (slow.intensity, slow.flags)
    return fast


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize(("allocated", "stored"), [(16, 16), (16, 12), (8, 8), (8, 7)])
@pytest.mark.parametrize("intercept", [-1024, 0, 0.5])
def test_every_type_with_garbage_in_unused_bits(
    tmp_path, syntax, signed, allocated, stored, intercept
):
    rng = np.random.default_rng(0)

    def edit(ds, _):
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, stored, stored - 1
        ds.PixelRepresentation = signed
        ds.Modality, ds.SOPClassUID = "MR", "1.2.840.10008.5.1.4.1.1.4"
        ds.RescaleIntercept = intercept
        ds.PixelData = rng.bytes(SHAPE[0] * SHAPE[1] * allocated // 8)

    headers = headers_of(tmp_path, edit, syntax=syntax)
    assert {header.pixels.plain for header in headers} == {f"<{'ui'[signed]}{allocated // 8}"}
    assert_alike(headers)


def test_padding_and_signs_that_differ_from_slice_to_slice(tmp_path):
    def edit(ds, k):
        ds.PixelRepresentation = k
        ds.add_new("PixelPaddingValue", "SS" if k else "US", 1400)
        pixels = np.frombuffer(ds.PixelData, "<i2").copy()
        pixels[:3] = 1400
        ds.PixelData = pixels.tobytes()

    stack = assert_alike(headers_of(tmp_path, edit))
    assert "padding_replaced" in stack.flags
    assert (stack.array_IJK[:3, 0] == -1000).all()


@pytest.mark.parametrize("highest", [32767, 65535])
def test_values_that_outgrow_the_first_type(tmp_path, highest):
    def edit(ds, k):
        ds.Modality, ds.SOPClassUID = "MR", "1.2.840.10008.5.1.4.1.1.4"
        ds.PixelRepresentation, ds.RescaleIntercept = 0, 0
        values = np.arange(SHAPE[0] * SHAPE[1]) + (k and highest - SHAPE[0] * SHAPE[1] + 1)
        ds.PixelData = values.astype("<u2").tobytes()

    stack = assert_alike(headers_of(tmp_path, edit))
    assert stack.array_IJK.max() == highest
    assert stack.array_IJK.dtype == (np.int16 if highest == 32767 else np.uint16)


def test_big_endian_goes_the_general_way(tmp_path):
    headers = headers_of(tmp_path, None, syntax=ExplicitVRBigEndian)
    assert not any(header.pixels.plain and header.pixels_start for header in headers)
    assert stack_pixels(headers, LIMITS).array_IJK.dtype == np.int16


def test_a_file_that_changed_since_its_header_was_read(tmp_path):
    """Moved pixels are found again; missing ones are told."""
    headers = headers_of(tmp_path, None)
    expected = stack_pixels(headers, LIMITS).array_IJK
    content = headers[0].path.read_bytes()
    moved = content.replace(b"Phantom^Analytic", b"Phantom^A").replace(b"PN\x10\0", b"PN\x09\0")
    headers[0].path.write_bytes(moved)
    np.testing.assert_array_equal(stack_pixels(headers, LIMITS).array_IJK, expected)
    headers[0].path.write_bytes(content[:-10])
    with pytest.raises(RejectedFileError) as caught:
        stack_pixels(headers, LIMITS)
    assert caught.value.code == "truncated_pixel_data"
