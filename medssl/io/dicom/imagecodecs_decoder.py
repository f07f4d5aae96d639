"""Lets pydicom decode a frame with imagecodecs: the interface of its decoding plugins."""

from importlib.util import find_spec

import numpy as np
from pydicom import uid
from pydicom.pixels.decoders.base import DecodeRunner

from medssl.io.dicom.codestream import is_ended
from medssl.io.narrow import VoxelArray

_SYNTAXES = (
    *uid.JPEGTransferSyntaxes,
    *uid.JPEGLSTransferSyntaxes,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
    uid.RLELossless,
)
DECODER_DEPENDENCIES = dict.fromkeys(_SYNTAXES, ("imagecodecs",))
"""What each transfer syntax needs, in pydicom's own form."""


def is_available(syntax: str) -> bool:
    """Return whether the plugin can decode ``syntax``."""
    return syntax in DECODER_DEPENDENCIES and find_spec("imagecodecs") is not None


def decode_frame(stream: bytes, runner: DecodeRunner) -> memoryview:
    """Return the pixels of one frame of one sample per pixel, as pydicom expects them.

    Raises:
        ValueError: when ``stream`` is cut short or gives another number of pixels.
        Exception: whatever imagecodecs raises.
    """
    if runner.samples_per_pixel != 1:
        raise NotImplementedError("colours are left to the other decoders")
    array = np.ascontiguousarray(_decoded(stream, runner))
    if array.size != runner.rows * runner.columns:
        raise ValueError("another number of pixels than rows and columns")
    runner.set_option("bits_allocated", 8 * array.itemsize)
    return array.data.cast("B")


def _decoded(stream: bytes, runner: DecodeRunner) -> VoxelArray:
    import imagecodecs

    syntax = runner.transfer_syntax
    if syntax in uid.JPEGLSTransferSyntaxes:
        return imagecodecs.jpegls_decode(stream)
    if syntax in uid.JPEG2000TransferSyntaxes:
        # HTJ2K too: OpenJPH, which is made for it, takes a stream that is cut short for whole.
        return imagecodecs.jpeg2k_decode(stream)
    if syntax == uid.RLELossless:
        dtype = runner.pixel_dtype
        most_bytes = runner.rows * runner.columns * dtype.itemsize
        values = imagecodecs.dicomrle_decode(stream, dtype, out=most_bytes)
        return np.frombuffer(values, dtype)
    if not is_ended(stream):
        raise ValueError("the stream is cut short")  # libjpeg would fill it up with grey
    return imagecodecs.jpeg8_decode(stream)
