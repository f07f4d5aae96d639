"""A report from what a hospital wrote to what is learned from: without identifiers, understood."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from medssl.config.base import Config
from medssl.reports.context import Context
from medssl.reports.labels import LABELLED_SECTIONS, Labeller, Reading
from medssl.reports.ontology import read_ontology
from medssl.reports.pairs import Section, text_digest
from medssl.reports.redaction import redact, remaining
from medssl.reports.sections import Headers
from medssl.reports.sources import RawReport, Refused

_NOTHING: Final = frozenset({"", "not given", "n/a", "na", "none", "nan", "null", "no text"})
_WORD: Final = re.compile(r"\w+")


class ReadingConfig(Config):
    """How reports are understood, and how strictly they must be without identifiers."""

    ontology: str = "chest_ct"
    """Which findings: chest_ct, chexpert, abdomen, brain, or a YAML file like those."""
    headers: Path | None = None
    """YAML file of section headers in place of the shipped one."""
    context: Path | None = None
    """YAML file of cues of negation and doubt in place of the shipped one."""
    strict: bool = True
    """Refuse a report in which something still looks like an identifier."""
    long_words: Annotated[int, Field(gt=0)] = 5000
    """A report of more words is noted as long; it is read all the same."""


@dataclass(frozen=True)
class ReadReport:
    """One report without identifiers, and what was understood of it."""

    place: str
    sections: tuple[Section, ...]
    reading: Reading
    removed: Counter[str]
    """Rule to how often it removed something."""
    remaining: Counter[str]
    """What still looks like an identifier; empty if the reader is strict."""
    has_headers: bool
    """Whether its sections were named by headers or columns."""
    is_long: bool

    @cached_property
    def digest(self) -> str:
        """Digest of the normalised text, equal for equal reports."""
        return text_digest("\n".join(part.text for part in self.sections))


class Reader:
    """Reads reports; made once."""

    def __init__(self, config: ReadingConfig) -> None:
        """Read the files that ``config`` names.

        Raises:
            InputError: One of them is missing or wrong.
        """
        self.config = config
        self.ontology = read_ontology(config.ontology)
        self._labeller = Labeller(self.ontology, Context.read(config.context))
        self._headers = Headers.read(config.headers)

    def read(self, raw: RawReport) -> ReadReport | Refused:
        """Return what ``raw`` says, or why it cannot be used."""
        removed = Counter[str]()
        found = [each for name, text in raw.parts for each in self._parts(name, text, raw, removed)]
        sections = _merged([part for part, _ in found])
        if not any(_says_something(part) for part in sections):
            reason = f"no words where something is reported ({', '.join(LABELLED_SECTIONS)})"
            return Refused(raw.place, "", "empty", reason)
        left = sum((remaining(part.text) for part in sections), Counter[str]())
        if left and self.config.strict:
            return Refused(raw.place, "", "identifiers_remain", _told(left))
        words = sum(len(_WORD.findall(part.text)) for part in sections)
        return ReadReport(
            raw.place,
            sections,
            self._labeller.read(sections),
            removed,
            left,
            any(named for _, named in found),
            words > self.config.long_words,
        )

    def _parts(
        self, name: str, text: str, raw: RawReport, removed: Counter[str]
    ) -> Iterator[tuple[Section, bool]]:
        """Yield the sections of a text, and whether something names them."""
        if text.strip().rstrip(".").lower() in _NOTHING:
            return
        clean = redact(text.replace("\r\n", "\n").replace("\r", "\n"), raw.known)
        removed.update(clean.removed)
        if name:
            yield Section(name=name, text=clean.text.strip()), True
            return
        for part in self._headers.sections(clean.text):
            words = clean.text[part.start : part.end]
            yield Section(name=part.name, text=words), bool(part.header)


def _merged(parts: list[Section]) -> tuple[Section, ...]:
    """Return the sections, those of one name as one, in the order in which they begin."""
    texts: dict[str, list[str]] = {}
    for part in parts:
        texts.setdefault(part.name, []).append(part.text)
    return tuple(Section(name=name, text="\n".join(each)) for name, each in texts.items())


def _says_something(part: Section) -> bool:
    return part.name in LABELLED_SECTIONS and _WORD.search(part.text) is not None


def _told(left: Counter[str]) -> str:
    found = ", ".join(f"{name} ({count})" for name, count in left.most_common())
    return (
        f"still looks as if it held identifiers: {found}; name their columns in "
        "sources.identifying, or set reading.strict=false once somebody has read it"
    )
