"""Look at compressed pixels before a decoder does: are they whole, and how large will they get?"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from medssl.io.reasons import reject

_ITEM, _DELIMITER = 0xFFFEE000, 0xFFFEE0DD
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_TAIL_BYTES = 10
"""Within how many bytes the end must be: some writers pad with others than zeros."""
_MARKER = 0xFF
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""JPEG's SOFn, and SOF55 of JPEG-LS: all hold precision, height, width and components."""
_J2K_START = b"\xff\x4f\xff\x51"
_J2K_SIZES_BYTES = 43
_JP2_CONTENT = b"jp2c"


class Announced(NamedTuple):
    """What a stream says that it will decode to."""

    rows: int
    columns: int
    samples: int
    """Per pixel."""
    bits: int
    """Per sample."""


def fragments(encapsulated: bytes, *, delimited: bool) -> list[memoryview]:
    """Return the fragments of encapsulated pixel data, without the table of offsets before them.

    Args:
        encapsulated: the value of the element; what follows its closing delimiter is ignored.
        delimited: whether there must be one; pydicom strips it.

    Raises:
        RejectedFileError: ``truncated_pixel_data``, unless all are there to their last byte.
    """
    view = memoryview(encapsulated)
    items: list[memoryview] = []
    position = 0
    while position + 8 <= len(view):
        group, element, length = struct.unpack_from("<HHL", view, position)
        tag = group << 16 | element
        if tag == _DELIMITER:
            return items[1:]
        end = position + 8 + length
        if tag != _ITEM or end > len(view):
            break
        items.append(view[position + 8 : end])
        position = end
    if delimited or position != len(view):
        raise reject("truncated_pixel_data", bad=1, total=1)
    return items[1:]


def is_ended(frame: bytes) -> bool:
    """Return whether a JPEG or JPEG-LS stream ends as such do, or was cut short."""
    return _JPEG_END in frame.rstrip(b"\0")[-_JPEG_TAIL_BYTES:]


def announced(frame: bytes) -> Announced | None:
    """Return what a JPEG, JPEG-LS or JPEG 2000 stream says it will decode to.

    A decoder allocates by these numbers, whatever the DICOM header says.

    Returns:
        None when the stream is of another kind or does not say.
    """
    if frame.startswith(_JPEG_START):
        return next(_jpeg_sizes(frame), None)
    start = _j2k_start(frame)
    if start is None or len(frame) < start + _J2K_SIZES_BYTES:
        return None
    width, height, left, top = struct.unpack_from(">4L", frame, start + 8)
    components, precision = struct.unpack_from(">HB", frame, start + 40)
    return Announced(height - top, width - left, components, (precision & 0x7F) + 1)


def _jpeg_sizes(frame: bytes) -> Iterator[Announced]:
    position = 2
    while position + 10 <= len(frame) and frame[position] == _MARKER:
        marker = frame[position + 1]
        if marker == _MARKER:  # padding between segments
            position += 1
            continue
        if marker in _FRAME_MARKERS:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, position + 4)
            yield Announced(rows, columns, samples, bits)
        position += 2 + struct.unpack_from(">H", frame, position + 2)[0]


def _j2k_start(frame: bytes) -> int | None:
    """Return where the code stream begins: at once, or in a box of a JP2 file."""
    position = 0
    while not frame.startswith(_J2K_START, position):
        if position + 8 > len(frame):
            return None
        size, box = struct.unpack_from(">L4s", frame, position)
        if box == _JP2_CONTENT:
            position += 8
        elif size >= 8:  # noqa: PLR2004  a box counts its own head
            position += size
        else:
            return None
    return position
