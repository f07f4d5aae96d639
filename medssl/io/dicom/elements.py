"""The wanted elements of a plain DICOM header, found without parsing the rest.

A general parser spends most of its time on elements nobody asked for. This one walks over them by
their lengths. It reads what nearly all archives hold (a preamble, little endian, sizes that add
up) and declines anything else, which then goes to pydicom: whatever it returns, pydicom would too.
"""

import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

_PREAMBLE_BYTES, _MAGIC = 128, b"DICM"
_HEAD_BYTES = (32 * 1024, 256 * 1024)
"""How much is read at first, and at most: a longer header is left to pydicom."""

_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
_META_START = _PREAMBLE_BYTES + len(_MAGIC) + len(_GROUP_LENGTH) + 4
_META_GROUP, _SYNTAX = b"\x02\x00", b"\x02\x00\x10\x00"
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_PIXEL_GROUP = b"\xe0\x7f"
_ITEM, _ITEM_END, _SEQUENCE_END = (
    b"\xfe\xff" + end for end in (b"\x00\xe0", b"\x0d\xe0", b"\xdd\xe0")
)
_OPEN_LENGTH = 0xFFFFFFFF
_DEEPEST = 16
_ESCAPE = b"\x1b"
"""Switches to another alphabet (ISO 2022)."""

_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN"}
    | {b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
_SYNTAXES_DECLINED = (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
_u32 = struct.Struct("<L").unpack_from


class _UnusualError(Exception):
    """The header is not of the plain kind."""


@dataclass(frozen=True, slots=True)
class Elements:
    """Raw values of the wanted elements, by tag as it stands in the file (four bytes)."""

    values: Mapping[bytes, "RawValue"]
    implicit: bool
    syntax: str
    pixels_start: int
    """Where the value of the pixel data begins in the file."""
    pixels_length: int
    """Bytes it announces; -1 where the length is left open, as for compressed pixels."""

    def only(self, tags: Collection[bytes]) -> tuple["RawElement", ...]:
        """Return ``tags``, as far as they are there: hashable, and equal for equal content."""
        return tuple((tag, *self.values[tag]) for tag in tags if tag in self.values)


RawValue: TypeAlias = tuple[str | None, bytes]
"""The value representation, None for implicit ones, and the bytes of the value."""

RawElement: TypeAlias = tuple[bytes, str | None, bytes]


def as_dataset(elements: Iterable[RawElement], syntax: str) -> Dataset:
    """Return ``elements`` as a data set, whose values pydicom converts when they are asked for."""
    raw: dict[BaseTag, DataElement | RawDataElement] = {}
    for tag, vr, value in elements:
        number = BaseTag(_number(tag))
        raw[number] = RawDataElement(number, vr, len(value), value, 0, vr is None, True)
    dataset = Dataset(raw)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    return dataset


def little_endian(keyword: str) -> bytes:
    """Return the tag of ``keyword`` as it stands in a file."""
    tag = Tag(keyword)
    return struct.pack("<HH", tag.group, tag.element)


def find_elements(stream: BinaryIO, wanted: frozenset[bytes]) -> Elements | None:
    """Return the ``wanted`` elements before the pixel data, or None for a header to be parsed.

    A wanted sequence, letters beyond ASCII, and anything out of the ordinary is declined.
    """
    for count in _HEAD_BYTES:
        stream.seek(0)
        head = stream.read(count)
        try:
            return _walk(head, wanted)
        except _UnusualError:
            return None
        except (IndexError, struct.error):  # the head ends within the header: read more of it
            if len(head) < count:
                return None
    return None


def _walk(head: bytes, wanted: frozenset[bytes]) -> Elements:
    if head[_PREAMBLE_BYTES : _META_START - 4] != _MAGIC + _GROUP_LENGTH:
        raise _UnusualError
    position = _META_START + _u32(head, _META_START - 4)[0]
    syntax = _syntax(head, position)
    implicit = syntax == ImplicitVRLittleEndian
    if implicit and head[position + 4 : position + 6].isalpha():
        raise _UnusualError  # says implicit, and spells the VR of its first element out
    values: dict[bytes, RawValue] = {}
    while True:
        tag = head[position : position + 4]
        vr, length, start = _element(head, position, implicit=implicit)
        if tag[:2] == _PIXEL_GROUP:
            if tag != _PIXEL_DATA:
                raise _UnusualError
            open_length = -1 if length == _OPEN_LENGTH else length
            return Elements(values, implicit, syntax, start, open_length)
        if tag in wanted:
            value = head[start : start + length]
            if vr == b"SQ" or length == _OPEN_LENGTH or not value.isascii() or _ESCAPE in value:
                raise _UnusualError
            if len(value) < length:
                raise IndexError
            values[tag] = (vr.decode() or None, value)
        position = start + length if length != _OPEN_LENGTH else _after(head, start, vr, 0)


def _syntax(head: bytes, end: int) -> str:
    """Return the transfer syntax that the meta information names, which ends at ``end``."""
    syntax, position = b"", _META_START
    while position < end:
        _, length, start = _element(head, position, implicit=False)
        if head[position : position + 2] != _META_GROUP:
            raise _UnusualError
        if head[position : position + 4] == _SYNTAX:
            syntax = head[start : start + length]
        position = start + length
    known = syntax.rstrip(b"\0 ").decode("ascii", "replace")
    if position != end or known in _SYNTAXES_DECLINED or not UID(known).is_transfer_syntax:
        raise _UnusualError
    return known


def _element(head: bytes, position: int, *, implicit: bool) -> tuple[bytes, int, int]:
    """Return the VR, the length and the start of the value of the element at ``position``."""
    if implicit:
        return b"", _u32(head, position + 4)[0], position + 8
    vr = head[position + 4 : position + 6]
    if vr in _SHORT_VRS:
        return vr, head[position + 6] | head[position + 7] << 8, position + 8
    if vr in _LONG_VRS:
        return vr, _u32(head, position + 8)[0], position + 12
    if len(vr) < 2:  # noqa: PLR2004  cut within the VR
        raise IndexError
    raise _UnusualError


def _after(head: bytes, start: int, vr: bytes, depth: int) -> int:
    """Return the position after a value of open length: a sequence, walked item by item."""
    if vr not in (b"SQ", b"") or depth > _DEEPEST:
        raise _UnusualError
    position = start
    while True:
        tag, (size,) = head[position : position + 4], _u32(head, position + 4)
        position += 8
        if tag == _SEQUENCE_END:
            return position
        if tag != _ITEM:
            raise _UnusualError
        if size != _OPEN_LENGTH:
            position += size
            continue
        while head[position : position + 4] != _ITEM_END:
            inner_vr, length, value = _element(head, position, implicit=vr == b"")
            open_ended = length == _OPEN_LENGTH
            position = _after(head, value, inner_vr, depth + 1) if open_ended else value + length
        position += 8


def _number(tag: bytes) -> int:
    group, element = struct.unpack("<HH", tag)
    return int(group << 16 | element)
