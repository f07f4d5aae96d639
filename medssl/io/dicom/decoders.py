"""Which decoder reads which compression: the quickest first, the others where it fails."""

from typing import Any

from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder

from medssl.io.dicom.codestream import announced, is_ended
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
    "imagecodecs": "imagecodecs",
    "pyjpegls": "pyjpegls",
    "pylibjpeg with pylibjpeg-openjpeg": "pylibjpeg",
    "pylibjpeg with pylibjpeg-rle": "pylibjpeg",
    "python-gdcm": "gdcm",
}
"""Under which name pydicom knows a package."""

for _syntax in PACKAGES:
    get_decoder(_syntax).add_plugin(
        "imagecodecs", ("medssl.io.dicom.imagecodecs_plugin", "decode_frame")
    )


def installed(syntax: uid.UID) -> list[str]:
    """Return the packages that read ``syntax`` and are here, the quickest first."""
    found = get_decoder(syntax).available_plugins
    return [package for package in PACKAGES[syntax] if _PLUGINS[package] in found]


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
    if not _is_sound(frame, pixels):
        raise reject("undecodable_pixels")
    decoder = get_decoder(pixels.syntax)
    encapsulated = encapsulate([frame], has_bot=False)
    options = _options(pixels)
    for package in installed(pixels.syntax):
        try:
            plugin = _PLUGINS[package]
            array, _ = decoder.as_array(encapsulated, raw=True, decoding_plugin=plugin, **options)
        except Exception:  # noqa: BLE001, S112  a decoder raises anything; the next may do better
            continue
        return array
    raise reject("undecodable_pixels")


def _options(pixels: PixelFormat) -> dict[str, Any]:
    """Return what pydicom must know of an image, by its own names."""
    rows, columns = pixels.image_shape
    return {
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


def _is_sound(frame: bytes, pixels: PixelFormat) -> bool:
    """Return whether a stream says that it will decode to the pixels the header announces."""
    if pixels.syntax == uid.RLELossless:
        return True  # it says nothing: decoders allocate by the header
    if pixels.syntax in uid.JPEGLSTransferSyntaxes and not is_ended(frame):
        return False  # as decoders find out too, after seconds for each
    says = announced(frame)
    expected = (*pixels.image_shape, 1)
    return says is not None and says[:3] == expected and says.bits <= pixels.bits_allocated
