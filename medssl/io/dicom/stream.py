"""A DICOM file as a stream pydicom can read without surprises: inflated under a limit."""

import io
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.filebase import DicomFileLike
from pydicom.filereader import read_dataset as read_elements
from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medssl.io.limits import Limits
from medssl.io.reasons import reject

PREAMBLE_BYTES, MAGIC = 128, b"DICM"
_META_GROUP_LENGTH_BYTES = 12
_META_PROBE_BYTES = 4096
_LONGEST_HEADER_BYTES = 16 * 2**20
_SIZES = ["NumberOfFrames", "SamplesPerPixel", "Rows", "Columns", "BitsAllocated"]
_PIXEL_DATA = Tag("PixelData")


def open_dicom(path: Path, limits: Limits) -> BinaryIO:
    """Open ``path``; a deflated file is inflated here, since pydicom does so without a limit.

    Raises:
        RejectedFileError: ``decompression_bomb``.
        OSError: when the file cannot be opened.
    """
    file = path.open("rb")
    start = file.read(_META_PROBE_BYTES)
    file.seek(0)
    if DeflatedExplicitVRLittleEndian.encode() not in start:
        return file
    with file:
        meta = read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return io.BytesIO(file.read())
        offset = PREAMBLE_BYTES + len(MAGIC) + _META_GROUP_LENGTH_BYTES
        file.seek(offset + int(meta.FileMetaInformationGroupLength))
        plain = _inflate(file.read(), limits.volume_bytes)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stream = io.BytesIO(bytes(PREAMBLE_BYTES) + MAGIC)
    stream.seek(0, io.SEEK_END)
    write_file_meta_info(DicomFileLike(stream), meta, enforce_standard=False)
    stream.write(plain)
    stream.seek(0)
    return stream


def has_preamble(path: Path) -> bool:
    """Return whether ``path`` starts as a DICOM file should."""
    with path.open("rb") as file:
        return file.read(PREAMBLE_BYTES + len(MAGIC))[PREAMBLE_BYTES:] == MAGIC


def read_dataset(stream: BinaryIO, tags: Sequence[str | int], *, pixels: bool) -> Dataset:
    """Return the elements ``tags`` of ``stream``, and no others: what is not read cannot leak.

    Without ``pixels`` the stream is left at the pixel data element, or at the end. A file
    without meta information gets the transfer syntax its encoding implies.
    """
    dataset = dcmread(
        stream, stop_before_pixels=not pixels, specific_tags=[Tag(tag) for tag in tags], force=True
    )
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _implied_syntax(*dataset.original_encoding)
    return dataset


def pixel_element_length(stream: BinaryIO, dataset: Dataset) -> int | None:
    """Return the byte length the pixel data announces, with ``stream`` left at its value.

    Returns:
        None when there is no pixel data; -1 when the length is left open, as it is for
        compressed pixels.
    """
    implicit, little = dataset.original_encoding
    order = "little" if little else "big"
    size = 8 if implicit else 12
    head = stream.read(size)
    if len(head) < size:
        return None
    length = int.from_bytes(head[-4:], order)  # type: ignore[arg-type]
    return -1 if length == 2**32 - 1 else length


def bytes_left(stream: BinaryIO) -> int:
    """Return how many bytes follow the position of ``stream``, which stays where it is."""
    here = stream.tell()
    end = stream.seek(0, io.SEEK_END)
    stream.seek(here)
    return end - here


def _inflate(data: bytes, limit: int) -> bytes:
    """Inflate no more than a header of reasonable length, and the pixels that header announces."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = engine.decompress(data, _LONGEST_HEADER_BYTES)
    if engine.unconsumed_tail:
        room = min(_announced_bytes(plain), limit)
        plain += engine.decompress(engine.unconsumed_tail, max(room, 1))
    if engine.unconsumed_tail:
        raise reject("decompression_bomb")
    return plain


def _announced_bytes(start: bytes) -> int:
    """Return how many bytes of pixels the header announces that ``start`` begins with."""
    header = read_elements(
        io.BytesIO(start),
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag >= _PIXEL_DATA,
        specific_tags=[Tag(keyword) for keyword in _SIZES],
    )
    return math.prod(int(header.get(keyword) or 1) for keyword in _SIZES) // 8


def _implied_syntax(implicit: bool | None, little: bool | None) -> UID:
    if not little:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
