"""Find many texts at once in streams of bytes, in every way in which they may be written."""

import html
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from ahocorasick_rs import BytesAhoCorasick

from medssl.privacy.identifiers import Identifier, spellings

_WINDOW_BYTES = 8 * 2**20
_PATTERNS_PER_AUTOMATON = 500_000
_NUMBER = re.compile(r"\d+")
_LETTERS = re.compile(r"[^\W\d_]{1,7}")
_UID = re.compile(r"[0-9]+(?:\.[0-9]+){4,}")
_UID_LETTERS = 20
_DATE_DIGITS = 8
_ENCODINGS = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "utf-32-le")
"""The last is how NumPy stores text."""


class Hit(NamedTuple):
    """One identifier found in one place."""

    identifier: Identifier
    offset: int
    """Where it was found first, in bytes."""
    times: int


@dataclass(frozen=True)
class _Pattern:
    identifier: Identifier
    alone: bool
    """Whether no letter or digit may stand beside it: short words and numbers."""


class Search:
    """Holds what to find; made once, used for every file."""

    def __init__(self, identifiers: Iterable[Identifier]) -> None:
        patterns: dict[bytes, _Pattern] = {}
        for identifier in sorted(identifiers):
            for pattern, alone in _patterns_of(identifier):
                patterns.setdefault(pattern, _Pattern(identifier, alone))
        self._patterns = list(patterns.values())
        self._longest = max(map(len, patterns), default=1)
        texts = list(patterns)
        self._automata = [
            (start, BytesAhoCorasick(texts[start : start + _PATTERNS_PER_AUTOMATON]))
            for start in range(0, len(texts), _PATTERNS_PER_AUTOMATON)
        ]

    def __len__(self) -> int:
        """Return the number of patterns."""
        return len(self._patterns)

    def in_stream(self, stream: BinaryIO) -> tuple[list[Hit], int]:
        """Return what ``stream`` holds, and how many bytes were read."""
        found: dict[Identifier, tuple[int, int]] = {}
        carried, start, settled = b"", 0, 0
        while True:
            chunk = stream.read(_WINDOW_BYTES)
            window = carried + chunk.lower()
            end = start + len(window) - (1 if chunk else 0)  # the byte after a match must be known
            for identifier, first, last in self._matches(window, start):
                if settled < last <= end:
                    offset, count = found.get(identifier, (first, 0))
                    found[identifier] = (min(offset, first), count + 1)
            if not chunk:
                break
            settled = end
            keep = self._longest + 2
            start += max(len(window) - keep, 0)
            carried = window[-keep:]
        hits = [Hit(identifier, *place) for identifier, place in sorted(found.items())]
        return hits, start + len(carried)

    def in_text(self, text: str) -> list[tuple[Identifier, int, int]]:
        """Return each identifier in a name, and where it starts and ends in its bytes."""
        content = text.encode("utf-8", "surrogateescape").lower()
        return list(self._matches(content, 0))

    def _matches(self, window: bytes, start: int) -> Iterator[tuple[Identifier, int, int]]:
        for number, automaton in self._automata:
            for index, first, last in automaton.find_matches_as_indexes(window, overlapping=True):
                pattern = self._patterns[number + index]
                if not pattern.alone or _alone(window, first, last):
                    yield pattern.identifier, start + first, start + last


def _patterns_of(identifier: Identifier) -> Iterator[tuple[bytes, bool]]:
    """Yield each way of writing it, and whether it counts only where it stands alone."""
    if _UID.fullmatch(identifier.text):  # every file has some: their ends suffice, in two ways
        end = identifier.text[-_UID_LETTERS:]
        yield end.encode(), False
        yield end.encode("utf-16-le"), False
        return
    for spelled in spellings(identifier.text):
        for pattern in encodings(spelled):
            yield pattern, _stands_alone(spelled)


def encodings(text: str) -> set[bytes]:
    """Return the bytes a text may be written as, in lower case as far as bytes have a case."""
    cases = {text.lower()} | ({text, text.upper(), text.title()} if not text.isascii() else set())
    cases |= {unicodedata.normalize(form, case) for form in ("NFC", "NFD") for case in cases}
    forms = cases | {escape(case) for escape in _ESCAPES for case in cases}
    found: set[bytes] = set()
    for form in forms:
        for encoding in _ENCODINGS:
            try:
                found.add(form.encode(encoding, "surrogateescape").lower())
            except UnicodeEncodeError:
                continue
    return found


def _as_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _as_python(text: str) -> str:
    return ascii(text)[1:-1]


def _as_xml(text: str) -> str:
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _as_numbered_html(text: str) -> str:
    """Write quotes as template engines do."""
    return html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")


def _as_url(text: str) -> str:
    """Write a text as it stands in a URL."""
    plain = "-_.~/"
    return "".join(
        chr(byte) if (chr(byte).isalnum() and byte < 128) or chr(byte) in plain else f"%{byte:02x}"  # noqa: PLR2004
        for byte in text.encode("utf-8", "surrogateescape")
    )


_ESCAPES = (_as_json, _as_python, _as_xml, _as_url, html.escape, _as_numbered_html)


def _stands_alone(text: str) -> bool:
    number = bool(_NUMBER.fullmatch(text)) and len(text) != _DATE_DIGITS
    return number or bool(_LETTERS.fullmatch(text))


def _alone(window: bytes, first: int, last: int) -> bool:
    before, after = window[first - 1 : first] if first else b"", window[last : last + 1]
    return not (_joins(before) or _joins(after))


def _joins(byte: bytes) -> bool:
    return byte.isalnum()


def masked(text: str, spans: Mapping[int, int]) -> str:
    """Return ``text`` with the bytes from each start to its end replaced by one sign."""
    content = text.encode("utf-8", "surrogateescape")
    for start, end in sorted(spans.items(), reverse=True):
        content = content[:start] + b"***" + content[end:]
    return content.decode("utf-8", "replace")
