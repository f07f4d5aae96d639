"""Findings of a report as 1, 0, -1 or not spoken of, each with the words that say so."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from ahocorasick_rs import AhoCorasick

from medssl.reports.context import Context, Meaning, Surroundings
from medssl.reports.ontology import Finding, Ontology
from medssl.reports.pairs import Section
from medssl.reports.phrases import compiled, stems_of
from medssl.reports.sentences import sentence_spans

LABELLED_SECTIONS: Final = ("findings", "impression", "body")
"""Sections that say what is seen; others say why it was looked for, how, and what was once."""

Label = Literal[1, 0, -1]
_VALUE: Final[dict[Meaning, Label]] = {
    Meaning.PRESENT: 1,
    Meaning.UNCERTAIN: -1,
    Meaning.ABSENT: 0,
}
"""The strongest first."""
_SEEN: Final = (Meaning.PRESENT, Meaning.UNCERTAIN)


class Evidence(NamedTuple):
    """One mention of a finding."""

    finding: str
    meaning: Meaning
    section: str
    start: int
    """First letter, counted from the start of the section's text."""
    end: int
    rule: str
    """Which list of the ontology named it: ``present`` or ``absent``."""


@dataclass(frozen=True)
class Reading:
    """What a report says of the findings of an ontology."""

    labels: dict[str, Label]
    """Finding: 1 present, 0 absent, -1 uncertain; one that is not spoken of is not there."""
    normal: bool | None
    """Whether the report finds nothing; None where it does not say."""
    evidence: tuple[Evidence, ...]


class Labeller:
    """Reads findings out of reports; made once for an ontology, used for every report."""

    def __init__(self, ontology: Ontology, context: Context | None = None) -> None:
        """Compile the ontology's phrases.

        Args:
            ontology: What is looked for.
            context: Cues of negation and doubt; those that are shipped if None.
        """
        self.ontology = ontology
        self._context = context or Context.read()
        self._normal = compiled(ontology.stated_normal)
        self._abnormal = compiled(ontology.also_abnormal)
        self._stems, self._finding_of = _stems(ontology)
        self._automaton = AhoCorasick(self._stems)

    def read(self, sections: Iterable[Section]) -> Reading:
        """Return labels, evidence and whether all is normal.

        A finding is present if one mention says so, else uncertain if one doubts it, else absent
        if one denies it. What once was and what is only asked for counts for nothing.

        A report is normal if no finding is present or uncertain, nothing else abnormal is
        described (``also_abnormal``), and it denies a finding or says that all is normal
        (``stated_normal``). It is not normal if something is present or uncertain or otherwise
        abnormal. If it says neither, nothing is known.
        """
        evidence, abnormal, stated = list[Evidence](), False, False
        for section in sections:
            if section.name not in LABELLED_SECTIONS:
                continue
            for start, end in sentence_spans(section.text):
                words = section.text[start:end]
                around = self._context.of(words)
                evidence += [
                    Evidence(name, meaning, section.name, start + first, start + last, rule)
                    for name, meaning, first, last, rule in self._mentions(words, around)
                ]
                abnormal = abnormal or _is_seen(self._abnormal, words, around)
                stated = stated or bool(self._normal and self._normal.search(words))
        labels = _labels(self.ontology.names, evidence)
        found = abnormal or any(labels.values())
        known = found or stated or bool(labels)
        return Reading(labels, not found if known else None, tuple(evidence))

    def _mentions(
        self, sentence: str, around: Surroundings
    ) -> Iterator[tuple[str, Meaning, int, int, str]]:
        """Yield finding, meaning, start, end and rule of what ``sentence`` names.

        Only findings of which a stem is there are looked for: patterns are slow, stems are not.
        """
        matches = self._automaton.find_matches_as_indexes(sentence.lower(), overlapping=True)
        for name in {self._finding_of[number]: None for number, _, _ in matches}:
            for meaning, start, end, rule in _of_finding(
                self.ontology.findings[name], sentence, around
            ):
                yield name, meaning, start, end, rule


def _stems(ontology: Ontology) -> tuple[list[str], list[str]]:
    """Return the stems of all phrases, and the finding that each belongs to."""
    pairs = {
        (stem, name): None
        for name, finding in ontology.findings.items()
        for phrase in (*finding.present, *finding.absent)
        for stem in stems_of(phrase)
    }
    return [stem for stem, _ in pairs], [name for _, name in pairs]


def _of_finding(
    finding: Finding, sentence: str, around: Surroundings
) -> Iterator[tuple[Meaning, int, int, str]]:
    present, absent, excluded = finding.patterns
    others = [match.span() for match in _found(excluded, sentence)]
    for match in _found(present, sentence):
        if not _overlaps(match.span(), others):
            yield around.meaning(*match.span()), *match.span(), "present"
    for match in _found(absent, sentence):
        if around.meaning(*match.span()) is Meaning.PRESENT and not around.denies_within(
            *match.span()  # "size is not normal"
        ):
            yield Meaning.ABSENT, *match.span(), "absent"


def _found(pattern: re.Pattern[str] | None, sentence: str) -> Iterable[re.Match[str]]:
    return pattern.finditer(sentence) if pattern is not None else ()


def _is_seen(pattern: re.Pattern[str] | None, sentence: str, around: Surroundings) -> bool:
    return any(around.meaning(*match.span()) in _SEEN for match in _found(pattern, sentence))


def _overlaps(span: tuple[int, int], others: Sequence[tuple[int, int]]) -> bool:
    return any(start < span[1] and span[0] < end for start, end in others)


def _labels(names: Sequence[str], evidence: Sequence[Evidence]) -> dict[str, Label]:
    said: dict[str, set[Meaning]] = {name: set() for name in names}
    for each in evidence:
        said[each.finding].add(each.meaning)
    strongest = {
        name: next((value for meaning, value in _VALUE.items() if meaning in meanings), None)
        for name, meanings in said.items()
    }
    return {name: value for name, value in strongest.items() if value is not None}
