"""Pixel data that may leave: the pixels as they are, and no bytes beside them."""

import struct
from collections.abc import Iterator
from math import prod

import numpy as np
from pydicom import Dataset

_ITEM = 0xFFFEE000
_J2K_START, _JPEG_START = b"\xff\x4f", b"\xff\xd8"
_MARKER, _START_OF_SCAN, _START_OF_TILE = 0xFF, 0xDA, 0x90
_JPEG_COMMENTS = frozenset({0xFE, *range(0xE1, 0xE8), *range(0xE9, 0xEE), 0xEF})
"""COM and APPn, apart from those that tell a decoder of colours: JFIF, Adobe, HP."""
_LONGEST_COLOUR_NOTE = 16
_COLOUR_NOTES = frozenset({0xE0, 0xE8, 0xEE})
_J2K_COMMENT = 0x64
_END = {_JPEG_START: b"\xff\xd9", _J2K_START: b"\xff\xd9"}
_WORD_BITS = {8, 16, 32}


def native(source: Dataset, *, little_endian: bool) -> bytes:
    """Return uncompressed pixels, cut to the announced length, unused bits cleared.

    Overlays used to be drawn into the bits above BitsStored; those are set to what the sign of
    the pixel makes them.
    """
    bits, stored = int(source.BitsAllocated), int(source.BitsStored)
    shape = (source.Rows, source.Columns, source.get("SamplesPerPixel", 1))
    count = prod(int(length) for length in shape) * int(source.get("NumberOfFrames") or 1)
    content: bytes = source.PixelData[: count * bits // 8]
    if bits in _WORD_BITS and stored < bits and int(source.HighBit) == stored - 1:
        kind = "i" if source.PixelRepresentation else "u"
        pixels = np.frombuffer(content, f"{'<' if little_endian else '>'}{kind}{bits // 8}")
        shifted = np.left_shift(pixels, bits - stored)
        clean = np.right_shift(shifted, bits - stored)
        if not np.array_equal(clean, pixels):
            content = clean.astype(pixels.dtype).tobytes()
    return content + b"\0" * (len(content) % 2)


def encapsulated(value: bytes) -> bytes:
    """Return compressed pixels with every comment inside them blanked; no length changes."""
    clean = bytearray(value)
    for number, (start, length) in enumerate(_items(value)):
        if number == 0:  # the offsets of the frames
            if length % 4 or not _increasing(value[start : start + length]):
                clean[start : start + length] = bytes(length)
            continue
        end = start + length
        for first, last in _comments(value[start:end]):
            clean[start + first : start + last] = b" " * (last - first)
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


def _comments(fragment: bytes) -> Iterator[tuple[int, int]]:
    """Yield the spans of a JPEG or JPEG 2000 stream that hold words instead of pixels."""
    start = fragment[:2]
    if start not in _END:
        return
    j2k = start == _J2K_START
    position = 2
    while position + 4 <= len(fragment) and fragment[position] == _MARKER:
        marker = fragment[position + 1]
        if marker == _MARKER:
            position += 1
            continue
        length = int(struct.unpack_from(">H", fragment, position + 2)[0])
        body, stop = position + 4, min(position + 2 + length, len(fragment))
        if marker == (_START_OF_TILE if j2k else _START_OF_SCAN):
            break
        if j2k and marker == _J2K_COMMENT:
            yield min(body + 2, stop), stop
        if not j2k and (
            marker in _JPEG_COMMENTS
            or (marker in _COLOUR_NOTES and stop - body > _LONGEST_COLOUR_NOTE)
        ):
            yield body, stop
        position += 2 + length
    end = fragment.rfind(_END[start])
    if 0 <= end < len(fragment) - 2:
        yield end + 2, len(fragment)
