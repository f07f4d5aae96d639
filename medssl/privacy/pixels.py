"""Pixel data that may leave: the pixels as they are, and no bytes beside them."""

import re
import struct
from collections.abc import Generator, Iterator
from math import prod

import numpy as np
from pydicom import Dataset

from medssl.privacy.refusals import refuse

_ITEM = 0xFFFEE000
_J2K_START, _JPEG_START = b"\xff\x4f", b"\xff\xd8"
_STARTS = {_J2K_START, _JPEG_START}
_MARKER, _END, _START_OF_SCAN, _START_OF_DATA = 0xFF, 0xD9, 0xDA, 0x93
_AFTER_DATA = {
    _JPEG_START: re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]"),
    _J2K_START: re.compile(rb"\xff[\x90\xd9]"),
}
"""The markers that end a stretch of coded pixels; no coder writes them among these."""
_JPEG_COMMENTS = frozenset({0xFE, *range(0xE1, 0xE8), *range(0xE9, 0xEE), 0xEF})
"""COM and APPn, apart from those that tell a decoder of colours: JFIF, Adobe, HP."""
_LONGEST_COLOUR_NOTE = 16
_COLOUR_NOTES = frozenset({0xE0, 0xE8, 0xEE})
_J2K_COMMENT = 0x64
_WORD_BITS = {8, 16, 32}


def native(source: Dataset, *, little_endian: bool) -> bytes:
    """Return uncompressed pixels, cut to the announced length, unused bits cleared.

    Overlays used to be drawn into the bits above BitsStored; those are set to what the sign of
    the pixel makes them.

    Raises:
        RejectedFileError: the pixels do not fill the lowest bits.
    """
    bits, stored = int(source.BitsAllocated), int(source.BitsStored)
    if stored < bits and int(source.HighBit) != stored - 1:
        raise refuse("spare_bits")
    shape = (source.Rows, source.Columns, source.get("SamplesPerPixel", 1))
    count = prod(int(length) for length in shape) * int(source.get("NumberOfFrames") or 1)
    content: bytes = source.PixelData[: count * bits // 8]
    if bits in _WORD_BITS and stored < bits:
        kind = "i" if source.PixelRepresentation else "u"
        pixels = np.frombuffer(content, f"{'<' if little_endian else '>'}{kind}{bits // 8}")
        shifted = np.left_shift(pixels, bits - stored)
        clean = np.right_shift(shifted, bits - stored)
        if not np.array_equal(clean, pixels):
            content = clean.astype(pixels.dtype).tobytes()
    return content + b"\0" * (len(content) % 2)


def encapsulated(value: bytes, *, coded: bool) -> bytes:
    """Return compressed pixels with every comment inside them blanked; no length changes.

    Args:
        value: the items of the pixel data.
        coded: whether they hold JPEG of some kind, which may be cut into items anywhere.

    Raises:
        RejectedFileError: it cannot be followed from comment to comment.
    """
    clean = bytearray(value)
    (start, length), *fragments = _items(value)
    if length % 4 or not _increasing(value[start : start + length]):  # the offsets of the frames
        clean[start : start + length] = bytes(length)
    if coded:
        joined = bytearray().join(value[at : at + size] for at, size in fragments)
        for first, last in _comments(bytes(joined)):
            joined[first:last] = b" " * (last - first)
        position = 0
        for at, size in fragments:
            clean[at : at + size] = joined[position : position + size]
            position += size
    return bytes(clean)


def _items(value: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each item's content starts, and its length."""
    position = 0
    while position + 8 <= len(value):
        group, element, length = struct.unpack_from("<HHL", value, position)
        if group << 16 | element != _ITEM:
            return
        yield position + 8, min(length, len(value) - position - 8)
        position += 8 + length


def _increasing(table: bytes) -> bool:
    offsets = np.frombuffer(table, "<u4")
    return bool(
        len(offsets) == 0 or (offsets[0] == 0 and (np.diff(offsets.astype(np.int64)) > 0).all())
    )


def _comments(stream: bytes) -> Iterator[tuple[int, int]]:
    """Yield the spans of JPEG or JPEG 2000 images, one after the other, that hold words."""
    position = 0
    while position < len(stream):
        start = stream[position : position + 2]
        if start in _STARTS:
            position = yield from _comments_of_one(stream, position)
            continue
        if position == 0:
            raise refuse("unknown_packing")
        starts = [found for mark in _STARTS if (found := stream.find(mark, position)) >= 0]
        yield position, (position := min(starts, default=len(stream)))


def _comments_of_one(stream: bytes, start: int) -> Generator[tuple[int, int], None, int]:
    """Yield the spans of the image at ``start`` that hold words; return where it ends."""
    kind = stream[start : start + 2]
    position = start + 2
    while position + 2 <= len(stream):
        if stream[position] != _MARKER:
            raise refuse("unknown_packing")
        marker = stream[position + 1]
        if marker == _MARKER:
            position += 1
            continue
        if marker == _END:
            return position + 2
        stop = position + 2
        if marker != _START_OF_DATA:
            length = int.from_bytes(stream[stop : stop + 2], "big")
            if length < 2:  # noqa: PLR2004  itself
                raise refuse("unknown_packing")
            yield from _words(kind, marker, stop + 2, min(stop + length, len(stream)))
            stop += length
        if marker in {_START_OF_DATA, _START_OF_SCAN}:
            found = _AFTER_DATA[kind].search(stream, stop)
            stop = found.start() if found else len(stream)
        position = stop
    return len(stream)


def _words(kind: bytes, marker: int, body: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield what of a segment holds words."""
    if kind == _J2K_START:
        if marker == _J2K_COMMENT:
            yield min(body + 2, stop), stop
    elif marker in _JPEG_COMMENTS or (
        marker in _COLOUR_NOTES and stop - body > _LONGEST_COLOUR_NOTE
    ):
        yield body, stop
