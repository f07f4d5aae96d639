"""Look at compressed pixels before a decoder does: are they whole, and how large will they get?"""

import struct
from collections.abc import Iterator

_ITEM, _DELIMITER = 0xFFFEE000, 0xFFFEE0DD
_J2K_START = b"\xff\x4f\xff\x51"
_J2K_SIZES_END = 24
_JPEG_START = b"\xff\xd8"
_MARKER = 0xFF
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""JPEG's SOFn, and SOF55 of JPEG-LS: all hold precision, height and width."""


def is_complete(encapsulated: bytes) -> bool:
    """Return whether every fragment of encapsulated pixel data is there to its last byte.

    Args:
        encapsulated: the value of the element, with or without its closing delimiter, which
            pydicom strips.
    """
    position = 0
    while position + 8 <= len(encapsulated):
        group, element, length = struct.unpack_from("<HHL", encapsulated, position)
        tag = group << 16 | element
        if tag == _DELIMITER:
            return True
        if tag != _ITEM or position + 8 + length > len(encapsulated):
            return False
        position += 8 + length
    return position == len(encapsulated)


def announced_size(frame: bytes) -> tuple[int, int] | None:
    """Return rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream says it will decode to.

    A decoder allocates by these numbers, whatever the DICOM header says.

    Returns:
        None when the stream is of another kind or names no size.
    """
    if frame.startswith(_J2K_START) and len(frame) >= _J2K_SIZES_END:
        width, height, left, top = struct.unpack_from(">4L", frame, 8)
        return height - top, width - left
    if frame.startswith(_JPEG_START):
        return next(_jpeg_sizes(frame), None)
    return None


def _jpeg_sizes(frame: bytes) -> Iterator[tuple[int, int]]:
    position = 2
    while position + 9 <= len(frame) and frame[position] == _MARKER:
        marker = frame[position + 1]
        if marker == _MARKER:  # padding between segments
            position += 1
            continue
        if marker in _FRAME_MARKERS:
            yield struct.unpack_from(">HH", frame, position + 5)
        position += 2 + struct.unpack_from(">H", frame, position + 2)[0]
