"""The numbers of a Siemens CSA header: a private element that is a small format of its own.

The layout is not published; https://nipy.org/nibabel/dicom/siemens_csa.html tells what is known
of it. nibabel's own reader follows lengths backwards, so that a few hostile kilobytes fill the
memory; this one only goes forward.
"""

import math
import struct
from collections.abc import Iterator

_LONGEST_BYTES = 2**20
_MAGIC = b"SV10"
_HEAD = struct.Struct("<8s2I")
_TAG = struct.Struct("<64si4s3i")
_ITEM = struct.Struct("<4i")
_ALIGNMENT_BYTES = 4


def numbers_of(content: bytes, names: frozenset[str]) -> dict[str, tuple[float, ...]]:
    """Return the numbers that ``names`` have in a CSA header of the second version (SV10).

    Raises:
        ValueError: for what is no such header, or lacks one of the names.
    """
    try:
        found = {
            name: tuple(float(item) for item in items if item)
            for name, items in _tags(content)
            if name in names
        }
    except struct.error as error:
        raise ValueError("the CSA header is cut short") from error
    if set(found) != names or not all(map(math.isfinite, sum(found.values(), ()))):
        raise ValueError("the CSA header lacks a number")
    return found


def _tags(content: bytes) -> Iterator[tuple[str, list[str]]]:
    """Yield each tag's name and its items."""
    if not content.startswith(_MAGIC) or len(content) > _LONGEST_BYTES:
        raise ValueError("no CSA header of the second version")
    _, tags, _ = _HEAD.unpack_from(content)
    position = _HEAD.size
    for _ in range(tags):
        name, _, _, _, count, _ = _TAG.unpack_from(content, position)
        position += _TAG.size
        items = []
        for _ in range(count):
            _, length, _, _ = _ITEM.unpack_from(content, position)
            position += _ITEM.size
            if not 0 <= length <= len(content) - position:
                raise ValueError("an item leads out of the CSA header")
            items.append(_text(content[position : position + length]))
            position += -(-length // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        yield _text(name), items


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("latin-1").strip()
