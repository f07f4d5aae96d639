"""Images compressed in every way that is read, by encoders of other packages where there are."""

from functools import partial

import imagecodecs
import jpeg_ls
import numpy as np
from pydicom import uid
from pydicom.encaps import generate_frames

from tests import phantoms

LOSSLESS = (
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.RLELossless,
)
LOSSY = (
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLSNearLossless,
    uid.JPEG2000,
    uid.HTJ2K,
)


def encoded(syntax, values, bits):
    """Return ``values`` (uint8 or uint16, below 2^bits) as a stream of ``syntax``."""
    encode = {
        uid.JPEGBaseline8Bit: _jpeg,
        uid.JPEGExtended12Bit: _jpeg,
        uid.JPEGLossless: partial(_jpeg, lossless=True, predictor=7),
        uid.JPEGLosslessSV1: partial(_jpeg, lossless=True, predictor=1),
        uid.JPEGLSLossless: partial(_jpeg_ls, error=0),
        uid.JPEGLSNearLossless: partial(_jpeg_ls, error=1),
        uid.JPEG2000Lossless: partial(_jpeg_2000, level=0, reversible=True),
        uid.JPEG2000: partial(_jpeg_2000, level=60),
        uid.HTJ2KLossless: _htj2k,
        uid.HTJ2KLosslessRPCL: _htj2k,
        uid.HTJ2K: partial(_htj2k, level=1e-4, reversible=False),
        uid.RLELossless: _rle,
    }
    return encode[syntax](values, bits)


def smooth(shape, bits, dtype=None):
    """Return an image with a little noise, from 0 to the largest value of so many bits."""
    ramp = np.add.outer(np.arange(shape[0]), np.arange(shape[1]))
    noise = np.random.default_rng(0).integers(-3, 4, shape)
    top = 2**bits - 1
    values = (ramp * top // ramp.max() + noise).clip(0, top)
    return values.astype(dtype or f"u{1 if bits <= 8 else 2}")


def _jpeg(values, bits, **options):
    return imagecodecs.jpeg8_encode(values, level=95, bitspersample=bits, **options)


def _jpeg_2000(values, bits, **options):
    return imagecodecs.jpeg2k_encode(values, codecformat="j2k", bitspersample=bits, **options)


def _htj2k(values, _, **options):
    return imagecodecs.htj2k_encode(values, **options)


def _jpeg_ls(values, bits, *, error):
    rows, columns = values.shape
    return bytes(
        jpeg_ls.encode_pixel_data(
            values.tobytes(),
            rows=rows,
            columns=columns,
            samples_per_pixel=1,
            bits_stored=bits,
            lossy_error=error,
            interleave_mode=0,
        )
    )


def _rle(values, _):
    affine = phantoms.affine_ras()
    (ds,) = phantoms.dicom_slices(np.zeros((*values.shape[::-1], 1), np.int16), affine)
    ds.BitsAllocated, ds.BitsStored, ds.PixelRepresentation = *(8 * values.itemsize,) * 2, 0
    ds.HighBit = ds.BitsStored - 1
    ds.compress(uid.RLELossless, values, encoding_plugin="pydicom", generate_instance_uid=False)
    return next(generate_frames(ds.PixelData, number_of_frames=1))
