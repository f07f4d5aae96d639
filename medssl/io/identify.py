"""What a file is, by its first bytes; its name is not believed."""

import zlib
from pathlib import Path
from typing import Literal

from medssl.io.dicom.stream import MAGIC, PREAMBLE_BYTES
from medssl.io.reasons import reject
from medssl.io.untrusted import untrusted

Format = Literal["dicom", "nifti"]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
GZIP_MAGIC = b"\x1f\x8b"
_HEAD_BYTES = 544
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""How a DICOM file without preamble starts: group 2 or 8, in either byte order."""


def identify(path: Path) -> Format:
    """Return the format of ``path``; "dicom" may still turn out not to be when it is read.

    Raises:
        RejectedFileError: ``not_dicom`` for anything else, ``damaged_header`` for what is named
            .nii or .nii.gz and is not, ``unreadable_file``.
    """
    with untrusted("unreadable_file"):
        if not path.is_file():
            raise reject("unreadable_file")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            packed = head + file.read(2**16) if head.startswith(GZIP_MAGIC) else b""
    if packed:
        head = _unpacked(packed)
    if is_nifti(head):
        return "nifti"
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        raise reject("damaged_header")
    if not packed and (head[PREAMBLE_BYTES:][: len(MAGIC)] == MAGIC or head[:2] in _FIRST_GROUPS):
        return "dicom"
    raise reject("not_dicom")


def is_nifti(head: bytes) -> bool:
    """Return whether ``head``, the first bytes of a file, is a NIfTI-1 or NIfTI-2 header."""
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def _unpacked(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed, _HEAD_BYTES)
    except zlib.error:
        return b""
