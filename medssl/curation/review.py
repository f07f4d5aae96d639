"""What a person judged: a table of pairs and volumes that outranks rules and thresholds.

``borderline.csv`` of a selection lists the pairs that were hardest to decide, with an empty column
to fill in; ``medssl curate --review FILE.csv`` takes it back. Lines that nobody filled in are left
out. A line without ``volume_b`` is about one volume.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.decisions import Decisions, Exclusion, equal_voxels
from medssl.curation.edges import Edge
from medssl.errors import InputError
from medssl.runs.folder import write_text

FILE = "borderline.csv"
COLUMNS: Final = ("volume_a", "volume_b", "kind", "score", "threshold", "judgement", "note")

OF_A_PAIR: Final = {
    "copy": "one scan: the lesser of the two is dropped",
    "different": "two scans: neither is dropped for the other",
}
OF_A_VOLUME: Final = {
    "keep": "kept, whatever rules and copies say",
    "exclude": "not wanted",
}
_MOST_MISTAKES = 10


@dataclass(frozen=True)
class Reviews:
    """Judgements by volume key, and by pair of keys in the order of the alphabet."""

    pairs: dict[tuple[str, str], str] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    """By volume key: what a person wrote beside a judgement of it."""


def read_reviews(path: Path, rows: CatalogRows) -> Reviews:
    """Return the judgements in the CSV file ``path``.

    Raises:
        InputError: it cannot be read, or listing its mistakes: unknown volumes, words that are no
            judgement, and judgements that contradict each other.
    """
    found, mistakes = Reviews(), []
    for number, row in enumerate(_lines(path), start=2):
        judgement = (row.get("judgement") or "").strip().lower()
        if not judgement:
            continue
        mistake = _mistake(row, judgement, rows) or _add(found, row, judgement)
        if mistake:
            mistakes.append(f"line {number}: {mistake}")
    if mistakes:
        more = len(mistakes) - _MOST_MISTAKES
        shown = mistakes[:_MOST_MISTAKES] + ([f"and {more} more"] if more > 0 else [])
        raise InputError(
            "\n".join(["the review cannot be used:", *(f"  {line}" for line in shown)]),
            hint=f"judgements of two volumes: {', '.join(OF_A_PAIR)}; "
            f"of one (volume_b empty): {', '.join(OF_A_VOLUME)}",
        )
    return found


def judge_volumes(reviews: Reviews, decisions: Decisions) -> None:
    """Apply what was said of single volumes; it outranks every rule, and no withdrawal."""
    for key, judgement in reviews.volumes.items():
        out = decisions.excluded.get(key)
        if out is not None and out.stage == "withdrawal":
            continue
        decisions.judged[key] = judgement
        if judgement == "exclude":
            reason = "a person looked and does not want it"
            decisions.excluded[key] = Exclusion("judged_exclude", reason, "review")
        else:
            decisions.excluded.pop(key, None)


def judge_edges(reviews: Reviews, decisions: Decisions, edges: Iterable[Edge]) -> list[Edge]:
    """Return the edges as a person judged them; a pair that no search found becomes one."""
    wanted = {
        pair: judgement
        for pair, judgement in reviews.pairs.items()
        if decisions.excluded.keys().isdisjoint(pair)
    }
    judged, seen = [], set()
    for edge in edges:
        judgement = wanted.get(edge.volumes)
        seen.add(edge.volumes)
        if judgement is not None and not equal_voxels(edge):
            judged.append(replace(edge, drops=judgement == "copy"))
        else:
            judged.append(edge)
    unknown = math.nan
    for (a, b), judgement in sorted(wanted.items()):
        if (a, b) not in seen and judgement == "copy":
            judged.append(
                Edge(volume_a=a, volume_b=b, kind="ambiguous", drops=True, ncc_physical=unknown,
                     ncc_index=unknown, score=unknown, threshold=unknown)
            )  # fmt: skip
        decisions.judged |= {a: f"{judgement} {b}", b: f"{judgement} {a}"}
    return sorted(judged, key=lambda edge: edge.volumes)


def borderline(edges: Iterable[Edge], judged: Iterable[str], most: int) -> list[Edge]:
    """Return the pairs whose score is closest to its threshold and that nobody judged yet."""
    known = frozenset(judged)
    open_edges = (
        edge
        for edge in edges
        if math.isfinite(edge.score + edge.threshold)
        and not equal_voxels(edge)
        and not known.intersection(edge.volumes)
    )
    return sorted(open_edges, key=lambda e: (abs(e.score - e.threshold), e.volumes))[:most]


def write_borderline(path: Path, edges: Sequence[Edge]) -> None:
    """Write the table that a person fills in."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(
        (e.volume_a, e.volume_b, e.kind, f"{e.score:.4f}", f"{e.threshold:.4f}", "", "")
        for e in edges
    )
    write_text(path, text.getvalue())


def _lines(path: Path) -> list[dict[str, str]]:
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            lines = list(table)
    except (OSError, UnicodeDecodeError, csv.Error):
        raise InputError(
            f"the review {path} cannot be read", hint=f"wanted a CSV file like {FILE}"
        ) from None
    missing = {"volume_a", "volume_b", "judgement"} - set(table.fieldnames or ())
    if missing:
        raise InputError(
            f"the review {path} has no column {' and no '.join(sorted(missing))}",
            hint=f"fill in a copy of {FILE}, which lies in the selection's folder",
        )
    return lines


def _mistake(row: dict[str, str], judgement: str, rows: CatalogRows) -> str:
    keys = [key for key in (row["volume_a"], row["volume_b"]) if key]
    known = OF_A_PAIR if row["volume_b"] else OF_A_VOLUME
    if judgement not in known:
        return f"{judgement!r} is no judgement of {len(keys)} volume(s): {' or '.join(known)}"
    unknown = [key for key in keys if key not in rows.place_of]
    if unknown or not keys:
        return f"the library has no volume {' and no '.join(unknown) or 'of that name'}"
    return "a volume beside itself" if len(set(keys)) < len(keys) else ""


def _add(found: Reviews, row: dict[str, str], judgement: str) -> str:
    """Add a judgement; return what is wrong where the same was judged otherwise before."""
    a, b = row["volume_a"], row["volume_b"]
    if b:
        pair = (min(a, b), max(a, b))
        same = found.pairs.setdefault(pair, judgement) == judgement
    else:
        same = found.volumes.setdefault(a, judgement) == judgement
    note = (row.get("note") or "").strip()
    if note:
        found.notes.update(dict.fromkeys([key for key in (a, b) if key], note))
    return "" if same else "judged twice, and differently"
