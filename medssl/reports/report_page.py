"""One self-contained HTML page of a set of reports: what was found, removed, refused."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from medssl.library.page import write_page
from medssl.reports.labels import Evidence
from medssl.reports.ontology import Ontology
from medssl.reports.pairs import ABSENT, PRESENT, UNCERTAIN
from medssl.reports.reading import ReadReport
from medssl.reports.sources import Refused

PAGE: Final = "report.html"
MOST_LINES: Final = 200
_EXAMPLES: Final = 3
_AROUND: Final = 60
"""Letters shown before and behind a mention."""


@dataclass(frozen=True)
class _Example:
    """A mention in its words."""

    before: str
    mention: str
    behind: str
    meaning: str
    section: str


@dataclass(frozen=True)
class _Line:
    """One finding over all reports."""

    title: str
    present: int
    absent: int
    uncertain: int
    unknown: int
    examples: Sequence[_Example]


def write_report_page(
    path: Path, reports: Sequence[ReadReport], refused: Sequence[Refused], ontology: Ontology
) -> None:
    """Write the page of ``reports``; every word on it is without what the rules know.

    Args:
        path: The file to write, whole or not at all.
        reports: Those that were read.
        refused: What was not, and why.
        ontology: What labels are about.
    """
    copies = Counter(each.digest for each in reports)
    normal = Counter(each.reading.normal for each in reports)
    write_page(
        path,
        "medssl.reports",
        reports=len(reports),
        normal=normal[True],
        not_normal=normal[False],
        normal_unknown=normal[None],
        with_headers=sum(each.has_headers for each in reports),
        long=sum(each.is_long for each in reports),
        sections=_by_count(part.name for each in reports for part in each.sections),
        title=ontology.title,
        lines=[_line(name, ontology, reports) for name in ontology.names],
        removed=_summed(each.removed for each in reports),
        remaining=_summed(each.remaining for each in reports),
        different=len(copies),
        copied=sum(count for count in copies.values() if count > 1),
        most_copied=max(copies.values(), default=0),
        refused=refused[:MOST_LINES],
        refused_by_code=_by_count(each.code for each in refused),
        refused_left_out=max(len(refused) - MOST_LINES, 0),
    )


def _line(name: str, ontology: Ontology, reports: Sequence[ReadReport]) -> _Line:
    counts = Counter[int | None](each.reading.labels.get(name) for each in reports)
    return _Line(
        ontology.findings[name].title,
        counts[PRESENT],
        counts[ABSENT],
        counts[UNCERTAIN],
        counts[None],
        _examples(name, reports),
    )


def _examples(name: str, reports: Iterable[ReadReport]) -> list[_Example]:
    """Return mentions that differ in meaning, the first of each."""
    found: dict[str, _Example] = {}
    for report in reports:
        texts = {part.name: part.text for part in report.sections}
        for each in report.reading.evidence:
            if each.finding == name and each.meaning not in found:
                found[each.meaning] = _example(each, texts[each.section])
        if len(found) == _EXAMPLES:
            break
    return list(found.values())


def _example(each: Evidence, text: str) -> _Example:
    return _Example(
        text[max(0, each.start - _AROUND) : each.start],
        text[each.start : each.end],
        text[each.end : each.end + _AROUND],
        each.meaning,
        each.section,
    )


def _by_count(names: Iterable[str]) -> list[tuple[str, int]]:
    return sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))


def _summed(counters: Iterable[Counter[str]]) -> list[tuple[str, int, int]]:
    """Return rule, how often it fired, and in how many reports; the most frequent first."""
    times, reports = Counter[str](), Counter[str]()
    for each in counters:
        times.update(each)
        reports.update(each.keys())
    return sorted(((n, times[n], reports[n]) for n in times), key=lambda row: (-row[1], row[0]))


def page_facts(reports: Sequence[ReadReport], refused: Sequence[Refused]) -> dict[str, Any]:
    """Return what the page says in a few numbers, for a terminal."""
    copies = Counter(each.digest for each in reports)
    return {
        "reports": len(reports),
        "normal": sum(each.reading.normal is True for each in reports),
        "with headers": sum(each.has_headers for each in reports),
        "long": sum(each.is_long for each in reports),
        "different texts": len(copies),
        "identifiers removed": sum(sum(each.removed.values()) for each in reports),
        "identifiers suspected": sum(sum(each.remaining.values()) for each in reports),
        "refused": len(refused),
        **{f"refused, {code}": n for code, n in _by_count(each.code for each in refused)},
    }
