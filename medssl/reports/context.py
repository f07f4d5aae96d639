"""What is meant of a finding that a sentence names: there, not there, perhaps, once, or asked for.

After ConText (Harkema et al., J Biomed Inform 2009): cues before or behind a finding, each with a
reach that certain words end. Cues are in ``context.yaml``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from medssl.errors import InputError
from medssl.reports.phrases import compiled, read_phrases

SHIPPED: Final = "context.yaml"


class Meaning(StrEnum):
    """What a mention says."""

    PRESENT = "present"
    ABSENT = "absent"
    UNCERTAIN = "uncertain"
    HISTORICAL = "historical"
    HYPOTHETICAL = "hypothetical"


_KINDS: Final = {
    "negation": Meaning.ABSENT,
    "affirmation": Meaning.PRESENT,
    "uncertain": Meaning.UNCERTAIN,
    "historical": Meaning.HISTORICAL,
    "hypothetical": Meaning.HYPOTHETICAL,
}
_PLACES: Final = ("before", "after")
_STRONGEST_FIRST: Final = (
    Meaning.HYPOTHETICAL,
    Meaning.HISTORICAL,
    Meaning.UNCERTAIN,
    Meaning.ABSENT,
)
_DOUBTED: Final = (Meaning.UNCERTAIN, Meaning.HYPOTHETICAL)
_DOUBT: Final = re.compile(r"[^,(?]{0,60}\?")
"""The question mark that doubts what stands before it, in its own bracket and before a comma."""
_BORDER_MARKS: Final = re.compile(r"[;:.•·\n\"](?=\s|$)|[;•·\"]")
_DONE: Final = re.compile(
    r"\b(?:observed|detected|seen|identified|found|present|noted|normal|natural|open)\s*"
    r"(?:,\s*(?:and\s+)?|and\s+)(?=\w)",
    re.IGNORECASE,
)
"""A clause that has come to its end, and another that begins: "no mass was seen, and a ..."."""


class _Cue(NamedTuple):
    start: int
    end: int
    meaning: Meaning
    place: str


@dataclass(frozen=True)
class Surroundings:
    """The cues and borders of one sentence."""

    text: str
    cues: Sequence[_Cue]
    borders: Sequence[tuple[int, int]]

    def meaning(self, start: int, end: int) -> Meaning:
        """Return what is meant of what stands from ``start`` to ``end``."""
        left = max((stop for _, stop in self.borders if stop <= start), default=0)
        bracket = self.text.find("(", end)  # what it holds speaks of itself
        ends = [first for first, _ in self.borders if first >= end]
        right = min([*ends, len(self.text), *([bracket] if bracket >= 0 else [])])
        before = [
            c for c in self.cues if c.place == "before" and left <= c.start and c.end <= start
        ]
        behind = [c for c in self.cues if c.place == "after" and end <= c.start and c.end <= right]
        if Meaning.ABSENT in {cue.meaning for cue in before}:  # "no suspicious nodule"
            outermost = next(cue for cue in before if cue.meaning is Meaning.ABSENT)
            before = [c for c in before if c.end <= outermost.end or c.meaning not in _DOUBTED]
        found = {cue.meaning for cue in (*before, *behind[:1])}
        if _DOUBT.match(self.text, end, right + 1):
            found.add(Meaning.UNCERTAIN)
        return next((meaning for meaning in _STRONGEST_FIRST if meaning in found), Meaning.PRESENT)

    def denies_within(self, start: int, end: int) -> bool:
        """Return whether a negation stands between ``start`` and ``end``."""
        return any(
            cue.meaning is Meaning.ABSENT and start < cue.start and cue.end < end
            for cue in self.cues
        )


class Context:
    """Cues, ready to be looked for."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        """Compile what ``context.yaml`` holds.

        Raises:
            ValueError: A kind, a place or a phrase is unknown.
        """
        unknown = set(tree) - {"not_a_cue", "borders", *_KINDS}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(map(str, unknown)))}")
        self._silent = compiled(tree.get("not_a_cue") or ())
        self._borders = compiled(tree.get("borders") or ())
        self._cues: list[tuple[Meaning, str, re.Pattern[str]]] = []
        for kind, meaning in _KINDS.items():
            places = tree.get(kind) or {}
            if set(places) - set(_PLACES):
                raise ValueError(f"{kind}: wanted {' and '.join(_PLACES)}")
            for place, phrases in places.items():
                pattern = compiled(phrases)
                if pattern is not None:
                    self._cues.append((meaning, place, pattern))

    @classmethod
    def read(cls, path: Path | None = None) -> "Context":
        """Return the cues of a YAML file, or those that are shipped.

        Raises:
            InputError: The file cannot be read, or something in it is no cue.
        """
        try:
            return cls(read_phrases(path, SHIPPED))
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path or SHIPPED}: {error}") from None

    def of(self, sentence: str) -> Surroundings:
        """Return what surrounds findings in ``sentence``; longer cues win over those inside."""
        found = [
            _Cue(*match.span(), meaning, place)
            for meaning, place, pattern in self._cues
            for match in pattern.finditer(sentence)
        ]
        silent = [m.span() for m in self._silent.finditer(sentence)] if self._silent else []
        borders = [m.span() for p in (_BORDER_MARKS, _DONE) for m in p.finditer(sentence)]
        borders += [m.span() for m in self._borders.finditer(sentence)] if self._borders else []
        covering = [*silent, *((cue.start, cue.end) for cue in found)]
        cues = [cue for cue in found if not _inside(cue, covering)]
        return Surroundings(sentence, sorted(cues), borders)


def _inside(cue: _Cue, spans: Sequence[tuple[int, int]]) -> bool:
    size = cue.end - cue.start
    return any(s <= cue.start and cue.end <= e and size < e - s for s, e in spans)
