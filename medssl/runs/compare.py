"""Several runs side by side: what was set otherwise, what came of it, and their curves."""

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from medssl.runs.folder import atomic_path
from medssl.runs.record import Curve, Record

Value = TypeVar("Value")

_ABSENT = "-"
_DIGEST_SHOWN = 12
_MOST_PANELS = 12
_COLUMNS = 3
_FEWEST_POINTS = 2


@dataclass(frozen=True)
class Row:
    """One line of a comparison."""

    kind: str
    """``setting``, ``number`` or ``digest``."""
    name: str
    values: tuple[str, ...]
    """One per run, in their order."""


def compare(records: Sequence[Record]) -> list[Row]:
    """Return the settings that differ, every final number, and the digests that differ."""
    settings = _rows("setting", [record.settings for record in records], str)
    digests = _rows("digest", [record.digests for record in records], _shortened)
    numbers = _rows("number", [record.numbers for record in records], _number)
    return [
        *(row for row in settings if _differs(row) and not _only_where(row.name)),
        *numbers,
        *(row for row in digests if _differs(row)),
    ]


def _rows(
    kind: str, columns: Sequence[dict[str, Value]], show: Callable[[Value], str]
) -> list[Row]:
    names = dict.fromkeys(name for column in columns for name in column)
    return [
        Row(kind, name, tuple(show(c[name]) if name in c else _ABSENT for c in columns))
        for name in names
    ]


def _only_where(name: str) -> bool:
    """Return whether a setting only says where things are written and recorded."""
    return name == "out" or name.startswith("tracking.")


def _differs(row: Row) -> bool:
    return len(set(row.values)) > 1


def _number(value: float) -> str:
    return f"{value:.6g}"


def _shortened(digest: str) -> str:
    return digest[:_DIGEST_SHOWN]


def write_table(path: Path, records: Sequence[Record], rows: Iterable[Row]) -> None:
    """Write ``rows`` as CSV, a column per run."""
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "name", *unique_labels(records)])
        writer.writerows([row.kind, row.name, *row.values] for row in rows)


def unique_labels(records: Sequence[Record]) -> list[str]:
    """Return a label per run; runs of the same name get a number."""
    labels = [record.label for record in records]
    return [
        label if labels.count(label) == 1 else f"{label} ({number})"
        for number, label in enumerate(labels, start=1)
    ]


def draw_curves(path: Path, records: Sequence[Record]) -> list[str]:
    """Draw the runs' curves over each other, a panel per name; return the names that were drawn.

    Names that most runs have come first; of more than 12 the rest is left out. Nothing is
    written where no run has a curve of two points.
    """
    names = _drawn(records)
    if not names:
        return []
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(names))
    height = -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * height + 0.5), layout="constrained")
    panels = figure.subplots(height, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        for number, record in enumerate(records):
            points = _finite(record.curves.get(name, []))
            axes.plot(*zip(*points, strict=True) if points else ([], []), color=f"C{number % 10}")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    lines = panels[0].get_lines()
    figure.legend(lines, unique_labels(records), loc="outside lower center", ncols=3, fontsize=8)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=120)
    return names


def _drawn(records: Sequence[Record]) -> list[str]:
    having: dict[str, int] = {}
    for record in records:
        for name, points in record.curves.items():
            having[name] = having.get(name, 0) + (len(_finite(points)) >= _FEWEST_POINTS)
    names = [name for name, count in having.items() if count]
    return sorted(names, key=lambda name: -having[name])[:_MOST_PANELS]


def _finite(points: Curve) -> Curve:
    return [(step, value) for step, value in points if math.isfinite(value)]
