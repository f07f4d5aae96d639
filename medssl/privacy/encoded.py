"""Base64 in files of any kind (pictures in a page, attachments, tokens): found and decoded."""

import binascii
import re
import string
from collections.abc import Iterator
from typing import BinaryIO

from medssl.privacy.containers import CannotLookInsideError, is_packed

_WINDOW_BYTES = 8 * 2**20
_SHORTEST_LETTERS = 24
_LONGEST_BYTES = 64 * 2**20
_LONGEST_BREAK_BYTES = 64
_LONG_BYTES, _GATHERED_BYTES = 2**10, 2**20
_SAMPLE_LETTERS = 1000

_LETTERS = (string.ascii_letters + string.digits + "+/-_").encode()
_MARKS = bytes(ord("A") if byte in _LETTERS else 0 for byte in range(256))
_NEEDLE = b"A" * _SHORTEST_LETTERS
_BREAK = re.compile(rb"(?:\r?\n|(?:\\r)?\\n)[ \t]{0,32}")  # of a line, or what JSON writes for one
_BREAK_STARTS = {b"\r", b"\n", b"\\"}
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def decoded(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield what stands in ``stream`` as base64, decoded, and the byte from which on it stands.

    Short pieces come together. What lacks capitals or small letters is no base64, but a key or
    a digest; other long words are decoded too, and come out as noise.

    Raises:
        CannotLookInsideError: a piece is longer than is decoded at once.
    """
    gathered, since = bytearray(), 0
    for offset, run in _runs(stream):
        content = _decode(run)
        if len(content) >= _LONG_BYTES or is_packed(content):
            yield offset, content
            continue
        if not gathered:
            since = offset
        gathered += content + b"\n"
        if len(gathered) >= _GATHERED_BYTES:
            yield since, bytes(gathered)
            gathered.clear()
    if gathered:
        yield since, bytes(gathered)


def _runs(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield every run of letters of base64, over breaks of lines, and where it starts."""
    window, base = b"", 0
    while True:
        chunk = stream.read(_WINDOW_BYTES)
        window += chunk
        marked = window.translate(_MARKS) + b"\0"
        end, start = 0, marked.find(_NEEDLE)
        while start >= 0:
            end = _end(window, marked, start)
            if chunk and len(window) - end < _LONGEST_BREAK_BYTES:  # it may go on
                break
            if window[start - 1 : start] == b"\\":  # the letter of an escape comes before
                start += 1
            run = window[start:end]
            if _is_mixed(run):
                yield base + start, run
            start = marked.find(_NEEDLE, end)
        if not chunk:
            return
        kept_from = (
            max(start - 1, 0) if start >= 0 else max(len(window) - _SHORTEST_LETTERS - 1, end)
        )
        window, base = window[kept_from:], base + kept_from
        if len(window) > _LONGEST_BYTES:
            if _is_mixed(window):
                raise CannotLookInsideError("holds a longer piece of base64 than is decoded")
            window, base = b"", base + len(window)


def _end(window: bytes, marked: bytes, start: int) -> int:
    """Return where the run ends that starts at ``start``."""
    end = marked.index(0, start)
    while window[end : end + 1] in _BREAK_STARTS and (found := _BREAK.match(window, end)):
        after = marked.index(0, found.end())
        if after == found.end():
            break
        end = after
    return end


def _is_mixed(run: bytes) -> bool:
    sample = run[:_SAMPLE_LETTERS]
    return sample.lower() != sample != sample.upper()


def _decode(run: bytes) -> bytes:
    if b"\n" in run or b"\\" in run:
        run = _BREAK.sub(b"", run)
    letters = run.translate(_TO_STANDARD)
    whole = len(letters) - (len(letters) % 4 == 1)
    return binascii.a2b_base64(letters[:whole] + b"=" * (-whole % 4))
