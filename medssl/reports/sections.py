"""Sections of a report, by the headers that six languages give them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from medssl.errors import InputError
from medssl.reports.phrases import read_phrases
from medssl.reports.plain import plain
from medssl.reports.sentences import sentence_spans

SHIPPED: Final = "sections.yaml"
BODY: Final = "body"
"""What stands before the first header, or all of a report without any."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_QUALIFIER: Final = r"(?:[ \t]*+\([^()\n]{1,40}\))?"
_PARAGRAPHS: Final = re.compile(r"\n[ \t]*\n")
_IMPRESSION, _FINDINGS = "impression", "findings"
_REPORTING: Final = {_FINDINGS, _IMPRESSION, BODY}


class Found(NamedTuple):
    """One section of a text."""

    name: str
    start: int
    """First letter of what it says, behind its header."""
    end: int
    header: str = ""
    """The header as it is written in the file of headers; "" where there is none."""


class Headers:
    """The headers of a file, ready to be looked for."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        """Compile the headers.

        Args:
            tree: Section to language to headers, as in ``sections.yaml``.

        Raises:
            ValueError: A name is no small word, or a header is no text or stands for two sections.
        """
        self._section_of: dict[str, str] = {}
        for name, languages in tree.items():
            if not _NAME.fullmatch(str(name)):
                raise ValueError(f"{name!r} is no name of a section: small letters and _")
            for header in (each for headers in languages.values() for each in headers):
                if not isinstance(header, str) or not header.strip():
                    raise ValueError(f"{name}: {header!r} is no header")
                if self._section_of.setdefault(plain(header), name) != name:
                    raise ValueError(f"the header {header!r} stands for two sections")
        longest_first = sorted(self._section_of, key=len, reverse=True)
        words = "|".join(re.escape(each).replace(r"\ ", r"[ \t]+") for each in longest_first)
        start = r"^[ \t]*(?:[#*_]{1,3}[ \t]*)?(?:\d{1,2}[.)][ \t]*)?"
        colon = rf"{_QUALIFIER}[ \t]*+(?:[*_]{{1,3}}[ \t]*+)?:[*_]{{0,3}}"
        alone = rf"{_QUALIFIER}[ \t]*+(?:[*_]{{1,3}}[ \t]*+)?\.?(?=\r?\n|\Z)"
        self._on_a_line = re.compile(
            rf"{start}(?P<header>{words})(?:{colon}|{alone})", re.MULTILINE
        )
        self._within_a_line = re.compile(rf"(?<=[.!?;)\]][ \t])(?P<header>{words}){colon}")

    @classmethod
    def read(cls, path: Path | None = None) -> "Headers":
        """Return the headers of a YAML file, or those that are shipped.

        Raises:
            InputError: The file cannot be read, or something in it is no header.
        """
        try:
            return cls(read_phrases(path, SHIPPED))
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path or SHIPPED} does not hold headers: {error}",
                hint="wanted section -> language -> list of headers",
            ) from None

    def sections(self, text: str) -> list[Found]:
        """Return the sections of ``text`` in order, those that say nothing left out.

        A header begins a line; within one, as where an export lost the ends of lines, it stands in
        capitals behind the end of a sentence.

        What stands before the first header is ``body``. Where headers say only why and how, what
        follows the first sentence of the last of them is the ``body``. A text without headers has
        its last paragraph for ``impression`` and the rest for ``findings``, or is ``body`` as a
        whole if it has one paragraph.
        """
        found = self._headers(text)
        if not found:
            return _by_paragraphs(text)
        starts = [0, *(match.end() for match in found)]
        ends = [*(match.start() for match in found), len(text)]
        headers = ["", *(match["header"] for match in found)]
        sections = [
            Found(self._section_of.get(" ".join(header.split()), BODY), *_inner(text, a, b), header)
            for header, a, b in zip(headers, starts, ends, strict=True)
        ]
        return _with_body(text, [each for each in sections if each.start < each.end])

    def _headers(self, text: str) -> list[re.Match[str]]:
        letters = plain(text)
        within = self._within_a_line.finditer(letters)
        capital = [m for m in within if text[m.start("header") : m.end("header")].isupper()]
        return sorted([*self._on_a_line.finditer(letters), *capital], key=re.Match.start)


def _with_body(text: str, sections: list[Found]) -> list[Found]:
    if not sections or {each.name for each in sections} & _REPORTING:
        return sections
    last = sections[-1]
    spans = sentence_spans(text[last.start : last.end])
    if len(spans) == 1:
        return sections
    cut = last.start + spans[0][1]
    return [*sections[:-1], last._replace(end=cut), Found(BODY, *_inner(text, cut, last.end))]


def _by_paragraphs(text: str) -> list[Found]:
    cuts = [match.start() for match in _PARAGRAPHS.finditer(text.rstrip())]
    whole = _inner(text, 0, len(text))
    if not cuts or not text[: cuts[-1]].strip():
        return [Found(BODY, *whole)] if whole[0] < whole[1] else []
    last = cuts[-1]
    return [
        Found(_FINDINGS, *_inner(text, 0, last)),
        Found(_IMPRESSION, *_inner(text, last, len(text))),
    ]


def _inner(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    first = start + len(piece) - len(piece.lstrip())
    return first, max(first, start + len(piece.rstrip()))
