"""What stands where no reader looks: behind the pixels of DICOM, and in the header of NIfTI."""

import gzip
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset

from medssl.io.dicom.stream import pixel_element_length
from medssl.io.identify import GZIP_MAGIC
from medssl.io.untrusted import untrusted

_MOST_BYTES = 2**20
_DELIMITER = 0xFFFEE0DD
_NIFTI_1_BYTES = 348
_RUN = re.compile(rb"[\x20-\x7e]{6,}")
_VOXEL_OFFSET_AT = 108
_MOST_HEADER_BYTES = 2**16


def after_pixels(stream: BinaryIO, dataset: Dataset) -> Iterator[bytes]:
    """Yield the bytes that follow the pixel data; ``stream`` stands at the pixel data element."""
    length = pixel_element_length(stream, dataset)
    if length is None:
        return
    if length >= 0:
        stream.seek(length, 1)
    else:
        _skip_items(stream)
    yield stream.read(_MOST_BYTES)


def _skip_items(stream: BinaryIO) -> None:
    while len(head := stream.read(8)) == 8:  # noqa: PLR2004  tag and length
        group, element, length = struct.unpack("<HHL", head)
        if group << 16 | element == _DELIMITER:
            return
        stream.seek(length, 1)


def nifti_texts(path: Path) -> list[str]:
    """Return the texts in a NIfTI header and in its extensions.

    Raises:
        RejectedFileError: it cannot be read.
    """
    with untrusted("damaged_compression"), path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        head = (gzip.GzipFile(fileobj=file) if packed else file).read(_MOST_HEADER_BYTES)
    size = int.from_bytes(head[:4], "little")
    order = "<" if size == _NIFTI_1_BYTES else ">"
    try:
        end = int(struct.unpack_from(f"{order}f", head, _VOXEL_OFFSET_AT)[0])
    except (struct.error, ValueError, OverflowError):
        end = _NIFTI_1_BYTES
    return [run.decode() for run in _RUN.findall(head[: max(end, _NIFTI_1_BYTES)])]
