"""Words of a report that stand for a concept: a dictionary of ``id,term``, the longest one wins."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from ahocorasick_rs import AhoCorasick

from medssl.errors import InputError
from medssl.reports.ontology import Ontology
from medssl.reports.plain import plain

COLUMNS: Final = ("id", "term")
_SHORTEST: Final = 3


class Concept(NamedTuple):
    """One mention."""

    concept: str
    """Its id in the dictionary; terms of one id mean the same."""
    start: int
    """First letter."""
    end: int


class ConceptMatcher:
    """Finds the terms of a dictionary in texts, whatever their case and accents."""

    def __init__(self, terms: Iterable[tuple[str, str]]) -> None:
        """Build the automaton.

        Args:
            terms: Id and term; shorter ones than three letters are left out, they mean too much.

        Raises:
            ValueError: One term stands for two concepts, or there is none.
        """
        self._concept_of: dict[str, str] = {}
        for concept, term in terms:
            written = " ".join(plain(term).split())
            if len(written) < _SHORTEST:
                continue
            if self._concept_of.setdefault(written, concept) != concept:
                raise ValueError("one term stands for two concepts")
        if not self._concept_of:
            raise ValueError("there is no term")
        self._terms = list(self._concept_of)
        self._automaton = AhoCorasick(self._terms)

    def __len__(self) -> int:
        """Return the number of terms."""
        return len(self._terms)

    def find(self, text: str) -> list[Concept]:
        """Return the concepts that ``text`` names as whole words, none inside another, in order."""
        letters = plain(text)
        whole = [
            (start, end, number)
            for number, start, end in self._automaton.find_matches_as_indexes(
                letters, overlapping=True
            )
            if _stands_alone(letters, start, end)
        ]
        found, reached = list[Concept](), 0
        for start, end, number in sorted(whole, key=lambda each: (each[0], -each[1])):
            if start >= reached:
                found.append(Concept(self._concept_of[self._terms[number]], start, end))
                reached = end
        return found


def read_concepts(path: Path) -> ConceptMatcher:
    """Return the matcher of a CSV with the columns ``id`` and ``term``, one term a row.

    Raises:
        InputError: It cannot be read, lacks a column, or one of its terms means two things.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"))))
        return ConceptMatcher((row["id"].strip(), row["term"]) for row in rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__})") from None
    except (KeyError, AttributeError, TypeError):
        raise InputError(f"{path} needs the columns {' and '.join(COLUMNS)}") from None
    except ValueError as error:
        raise InputError(f"{path} is no dictionary of concepts: {error}") from None


def own_concepts(ontologies: Iterable[Ontology]) -> ConceptMatcher:
    """Return the concepts of ontologies: each finding by its title and its plain phrases.

    A phrase with gaps or open endings names no term; a term that two findings share is nobody's.
    """
    meant: dict[str, set[str]] = {}
    for ontology in ontologies:
        for name, finding in ontology.findings.items():
            terms = [
                finding.title,
                *(each for each in finding.present if not set(each) & set("*~?|")),
            ]
            for term in terms:
                meant.setdefault(plain(term), set()).add(name)
    return ConceptMatcher(
        (next(iter(names)), term) for term, names in meant.items() if len(names) == 1
    )


def _stands_alone(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    return not (before.isalnum() or after.isalnum())
