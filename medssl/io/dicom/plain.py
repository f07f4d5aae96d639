"""Uncompressed pixels, read straight from where the header pass found them."""

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medssl.io.dicom.slices import SliceHeader
from medssl.io.dicom.values import integer_of, text_of
from medssl.io.narrow import VoxelArray
from medssl.io.reasons import reject
from medssl.io.untrusted import untrusted

_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_HEAD_BYTES = 12
"""Before the value; the tag is at their start, or four bytes on where the VR is implicit."""


def plain_type(dataset: Dataset) -> str:
    """Return the type of pixels that need no decoder: whole numbers, little endian, one image."""
    allocated = integer_of([dataset], "BitsAllocated")
    stored = integer_of([dataset], "BitsStored")
    kind = {0: "u", 1: "i"}.get(integer_of([dataset], "PixelRepresentation", -1))
    usual = (
        dataset.file_meta.TransferSyntaxUID in (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
        and text_of(dataset, "PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
        and text_of(dataset, "NumberOfFrames") in ("", "1")
        and text_of(dataset, "SamplesPerPixel") == "1"
    )
    fits = allocated in (8, 16) and 1 <= stored <= allocated
    return f"<{kind}{allocated // 8}" if usual and kind and fits else ""


def read_plain(header: SliceHeader, stored: VoxelArray) -> bool:
    """Read the stored values of ``header`` into ``stored``; sign and unused bits are resolved.

    Args:
        header: with ``pixels_start`` and ``pixels.plain``.
        stored: (rows, columns) of the type ``pixels.plain``, contiguous.

    Returns:
        False when the file no longer is as it was when its header was read.

    Raises:
        RejectedFileError: ``truncated_pixel_data``, ``unreadable_file``.
    """
    start = header.pixels_start or 0
    with untrusted("undecodable_pixels"), header.path.open("rb", buffering=0) as file:
        file.seek(start - _HEAD_BYTES)
        head = file.read(_HEAD_BYTES)
        if _PIXEL_DATA not in (head[:4], head[4:8]):
            return False
        if file.readinto(stored.data) != stored.nbytes:
            raise reject("truncated_pixel_data", bad=1, total=1)
    unused = 8 * stored.itemsize - header.pixels.bits
    if unused:
        stored <<= unused
        stored >>= unused
    return True
