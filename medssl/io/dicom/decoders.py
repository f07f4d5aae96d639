"""Which decoder reads which compression: the quickest first, the others where it fails."""

from importlib.util import find_spec
from typing import Any

from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder

from medssl.io.dicom.codestream import announced, is_ended
from medssl.io.dicom.imagecodecs_decoder import decode_image
from medssl.io.dicom.slices import PixelFormat
from medssl.io.narrow import VoxelArray
from medssl.io.reasons import reject

_JPEG = ("imagecodecs", "python-gdcm")
_JPEG_LS = ("imagecodecs", "pyjpegls")
_JPEG_2000 = ("imagecodecs", "pylibjpeg with pylibjpeg-openjpeg")
PACKAGES: dict[uid.UID, tuple[str, ...]] = {
    uid.JPEGBaseline8Bit: _JPEG,
    uid.JPEGExtended12Bit: ("imagecodecs",),
    uid.JPEGLossless: _JPEG,
    uid.JPEGLosslessSV1: _JPEG,
    uid.JPEGLSLossless: _JPEG_LS,
    uid.JPEGLSNearLossless: _JPEG_LS,
    uid.JPEG2000Lossless: _JPEG_2000,
    uid.JPEG2000: _JPEG_2000,
    uid.HTJ2KLossless: _JPEG_2000,
    uid.HTJ2KLosslessRPCL: _JPEG_2000,
    uid.HTJ2K: _JPEG_2000,
    uid.RLELossless: ("imagecodecs", "pylibjpeg with pylibjpeg-rle"),
}
"""What reads each compression, the quickest first. Left out is what fails on a kind of image, or
makes one of a damaged stream that the others refuse."""

_UNCOMPRESSED = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
_PLUGINS = {
    "pyjpegls": "pyjpegls",
    "pylibjpeg with pylibjpeg-openjpeg": "pylibjpeg",
    "pylibjpeg with pylibjpeg-rle": "pylibjpeg",
    "python-gdcm": "gdcm",
}
"""Under which name pydicom knows a package."""

_IMAGECODECS = ["imagecodecs"] if find_spec("imagecodecs") else []


def installed(syntax: uid.UID) -> list[str]:
    """Return the packages that read ``syntax`` and are here, the quickest first."""
    plugins = get_decoder(syntax).available_plugins
    found = [*_IMAGECODECS, *(package for package, name in _PLUGINS.items() if name in plugins)]
    return [package for package in PACKAGES[syntax] if package in found]


def decodable(syntax: uid.UID) -> bool:
    """Return whether pixels in ``syntax`` can be read."""
    if syntax in PACKAGES:
        return bool(installed(syntax))
    return syntax in _UNCOMPRESSED


def name_of(syntax: uid.UID) -> str:
    """Return the name of ``syntax`` in the standard; never words out of a file."""
    return syntax.name if syntax.type else "a private transfer syntax"


def advice(syntax: uid.UID) -> str:
    """Return what to do about pixels in ``syntax`` that cannot be read."""
    if syntax in PACKAGES:
        return f"Install {' or '.join(PACKAGES[syntax])}, then ingest again."
    return "No decoder for it is known here: decompress the files elsewhere, then ingest again."


def decode(frame: bytes, pixels: PixelFormat) -> VoxelArray:
    """Return the stored values of one compressed image of a file, (rows, columns).

    Raises:
        RejectedFileError: ``undecodable_pixels``.
    """
    bits = _bits_that_count(frame, pixels)
    for package in installed(pixels.syntax):
        try:
            if package == "imagecodecs":
                return decode_image(frame, pixels, bits)
            return _decode_by_pydicom(frame, pixels, _PLUGINS[package])
        except Exception:  # noqa: BLE001, S112  a decoder raises anything; the next may do better
            continue
    raise reject("undecodable_pixels")


def _bits_that_count(frame: bytes, pixels: PixelFormat) -> int:
    """Return how many bits of a decoded value are used, as pydicom sees it.

    Raises:
        RejectedFileError: ``undecodable_pixels``, for a stream that says that it will decode to
            other pixels than the header announces.
    """
    if pixels.syntax == uid.RLELossless:
        return pixels.bits  # the stream says nothing: decoders allocate by the header
    says = announced(frame)
    expected = (*pixels.image_shape, 1)
    if says is None or says[:3] != expected or says.bits > pixels.bits_allocated:
        raise reject("undecodable_pixels")
    if pixels.syntax in uid.JPEGLSTransferSyntaxes and not is_ended(frame):
        raise reject("undecodable_pixels")  # as decoders find out too, after seconds for each
    return pixels.bits if pixels.syntax in uid.JPEGTransferSyntaxes else says.bits


def _decode_by_pydicom(frame: bytes, pixels: PixelFormat, plugin: str) -> VoxelArray:
    rows, columns = pixels.image_shape
    options: dict[str, Any] = {
        "pixel_keyword": "PixelData",
        "number_of_frames": 1,
        "rows": rows,
        "columns": columns,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": pixels.bits_allocated,
        "bits_stored": pixels.bits,
        "pixel_representation": int(pixels.signed),
    }
    decoder, encapsulated = get_decoder(pixels.syntax), encapsulate([frame], has_bot=False)
    array, _ = decoder.as_array(encapsulated, raw=True, decoding_plugin=plugin, **options)
    return array
