"""One self-contained HTML page of a library: what came in, what was refused and why, pictures."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from medssl.errors import InputError
from medssl.ingest.items import ItemResult
from medssl.library.outcomes import FileOutcome
from medssl.library.page import write_page
from medssl.library.pictures import data_uri
from medssl.library.volumes import read_picture

FILE = "ingest.html"
MOST_PICTURES, MOST_LINES = 60, 200

Row = Mapping[str, Any]

_OUTCOMES = (("converted", "good"), ("skipped", "idle"), ("quarantined", "bad"))
_COLUMNS = {
    "modality": "Modality",
    "intensity": "Unit of the values",
    "body_part": "Body part",
    "manufacturer": "Manufacturer",
    "head_fov": "A face may be in it",
}
_KINDS = ("source_format", "modality", "body_part", "manufacturer", "regularized")
_INTENSITIES = {"hu": "HU", "suv": "SUV", "bqml": "Bq/ml", "arbitrary": "arbitrary units"}


@dataclass(frozen=True)
class Line:
    """Files refused together, and why."""

    code: str
    sentence: str
    files: int
    file_key: str


def write_report(
    library: Path, outcomes: Sequence[FileOutcome], rows: Sequence[Row], items: Iterable[ItemResult]
) -> None:
    """Write ``ingest.html`` into ``library``.

    Args:
        library: the library's folder.
        outcomes: one per file.
        rows: of the catalog, one per volume.
        items: what was converted together: the files of an item that were refused for one reason
            make one line.
    """
    counts = Counter(str(row.outcome) for row in outcomes)
    item_of = {row.file_key: item.key for item in items for row in item.files}
    lines = _lines([row for row in outcomes if row.outcome == "quarantined"], item_of)
    skipped = [row for row in outcomes if row.outcome == "skipped"]
    volumes = sorted(rows, key=lambda row: str(row["volume_key"]))
    write_page(
        library / FILE,
        "medssl.ingest",
        files=len(outcomes),
        outcomes=[(name, style, counts[name]) for name, style in _OUTCOMES],
        volumes=len(volumes),
        patients=len({row["patient_key"] for row in volumes}),
        lines=lines[:MOST_LINES],
        lines_left_out=max(len(lines) - MOST_LINES, 0),
        skipped=_lines(skipped, {row.file_key: row.reason_code for row in skipped}),
        tables=_tables(volumes),
        shown=[_shown(library, row) for row in _varied(volumes)],
    )


def _lines(refused: Iterable[FileOutcome], together: Mapping[str, str]) -> list[Line]:
    """Return a line per group of ``together`` and reason, those of most files first."""
    groups: dict[tuple[str, str], list[FileOutcome]] = {}
    for row in sorted(refused, key=lambda row: row.file_key):
        key = (together.get(row.file_key, row.file_key), row.reason_code)
        groups.setdefault(key, []).append(row)
    lines = [
        Line(rows[0].reason_code, rows[0].reason, len(rows), rows[0].file_key)
        for rows in groups.values()
    ]
    return sorted(lines, key=lambda line: (-line.files, line.code, line.file_key))


def _tables(rows: Sequence[Row]) -> list[tuple[str, list[tuple[str, int]]]]:
    counted = {
        title: Counter(str(row[column]) or "not stated" for row in rows)
        for column, title in _COLUMNS.items()
    }
    counted["Noticed"] = Counter(flag for row in rows for flag in row["flags"])
    return [(title, _by_count(found)) for title, found in counted.items() if found]


def _by_count(counted: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))


def _varied(rows: Sequence[Row]) -> list[Row]:
    """Return at most ``MOST_PICTURES`` rows, in turn from every kind of scan there is."""
    kinds: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        kinds.setdefault(tuple(str(row[column]) for column in _KINDS), []).append(row)
    turns = zip_longest(*(kinds[kind] for kind in sorted(kinds)))
    chosen = [row for turn in turns for row in turn if row is not None][:MOST_PICTURES]
    return sorted(chosen, key=lambda row: [str(row[column]) for column in (*_KINDS, "volume_key")])


def _shown(library: Path, row: Row) -> dict[str, Any]:
    try:
        picture = data_uri(read_picture(library, row["volume_key"]))
    except InputError:  # a damaged file: the page says so in its place
        picture = ""
    return {
        "volume_key": row["volume_key"],
        "modality": row["modality"],
        "shape": " x ".join(str(row[f"shape_{axis}"]) for axis in "ijk"),
        "spacing": " x ".join(f"{row[f'spacing_{axis}_mm']:.3g}" for axis in "ijk"),
        "intensity": _INTENSITIES.get(row["intensity"], "unknown units"),
        "flags": row["flags"],
        "picture": picture,
    }
