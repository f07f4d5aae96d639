"""Why a volume or a slice is in a selection or not, and beside what: as text, and as a page."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from medssl.curation import ledger, sampling_table
from medssl.curation.edges import DEMOTES, KINDS
from medssl.curation.release import EDGES
from medssl.curation.selection import finished_folder
from medssl.errors import InputError, MedSSLError
from medssl.library.catalog import catalog_path
from medssl.library.page import write_page
from medssl.library.pictures import data_uri
from medssl.library.volumes import read_picture

Row = dict[str, Any]

_SHOWN_MATCHES = 5
_MOST_BESIDE = 20
_RANKED_BY = (
    "derived", "not in HU", "coarsest spacing in mm", "voxel in mm3", "minus field of view in ml",
    "remarks", "not from DICOM", "key",
)  # fmt: skip
"""What ``leaders.rank_key`` holds; the smaller comes first."""

DECIDED = {
    "keep": "kept",
    "drop": "dropped: a copy of a kept volume",
    "demote": "demoted: another view of a kept volume",
    "exclude": "excluded",
    "review": "left out until a person looks",
}


@dataclass(frozen=True)
class Explanation:
    """All that a selection says of one volume."""

    row: Row
    """Of the ledger."""
    scan: Row
    """Of the catalog; empty where the library has it no more."""
    beside: list[tuple[Row, Row]]
    """Edges of the volume, the strongest first, each with the other volume's row of the ledger."""
    stands_for: list[Row]
    """Rows of the ledger of those that this volume represents."""

    @property
    def volume_key(self) -> str:
        """Return the whole key."""
        return str(self.row["item"])


def explain(library: Path, name: str, item: str) -> Explanation:
    """Return what the selection ``name`` says of the volume ``item``: a key, or its beginning.

    Raises:
        InputError: there is no such selection, no such volume in it, or several.
    """
    folder = finished_folder(library, name)
    key = _whole_key(folder, item)
    (row,) = _ledger_rows(folder, "item", [key])
    edges = [
        edge
        for column in ("volume_a", "volume_b")
        for edge in pq.read_table(folder / EDGES, filters=[(column, "=", key)]).to_pylist()
    ]
    edges.sort(key=lambda edge: (not edge["drops"], -_or_zero(edge["score"]), _other(edge, key)))
    edges = edges[:_MOST_BESIDE]
    others = {r["item"]: r for r in _ledger_rows(folder, "item", [_other(e, key) for e in edges])}
    return Explanation(
        row,
        next(iter(_rows(catalog_path(library), "volume_key", [key])), {}),
        [(edge, others[_other(edge, key)]) for edge in edges],
        sorted(_ledger_rows(folder, "representative", [key]), key=lambda r: str(r["item"])),
    )


def explain_slice(library: Path, name: str, item: str, index: int) -> list[str]:
    """Return what the sampling table of a selection says of one slice, as lines of text.

    Raises:
        InputError: as ``explain``; or the selection has no table, or the volume no such slice.
    """
    folder = finished_folder(library, name)
    key = _whole_key(folder, item)
    table = sampling_table.read_sampling_table(folder / sampling_table.FILE, [key])
    rows = {row["index"]: row for row in table.to_pylist()}
    if index not in rows:
        there = f"it has 0 to {max(rows)}" if rows else "it is not kept, so its slices are not"
        raise InputError(f"the sampling table knows no slice {index} of {key}", hint=there)
    row = rows[index]
    lines = [
        f"slice {index} of volume {key}, at {row['position_mm']:.1f} mm",
        f"  {'kept' if row['kept'] else 'not kept'} by {row['strategy']}: {row['reason']}",
        f"  drawn with weight {row['weight']:g}",
    ]
    if row["representative_index"] is not None:
        other = rows[row["representative_index"]]
        apart_mm = abs(other["position_mm"] - row["position_mm"])
        lines.append(f"  beside slice {other['index']}, {apart_mm:.1f} mm away, which is kept")
    if row["score"] is not None:
        lines.append(f"  score {row['score']:.4g}, threshold {row['threshold']:.4g}")
    return lines


def as_text(found: Explanation) -> list[str]:
    """Return an explanation as lines."""
    row = found.row
    lines = [f"volume {row['item']}{_described(found.scan)}", f"  {_fate(row)}"]
    lines.append(f"  because: {row['reason']} ({row['stage']}: {row['reason_code']})")
    if row["judgement"]:
        lines.append(f"  a person said: {row['judgement']}")
    if row["supersedes"]:
        lines.append(f"  ranks better than {row['supersedes']}, which is released and stays")
    if row["rank"]:
        pairs = zip(_RANKED_BY, json.loads(row["rank"]), strict=False)
        lines.append("  ranked by: " + ", ".join(f"{what} {value}" for what, value in pairs))
    lines.append(f"  group {row['group_key']}, patient {row['patient_key']}")
    if found.stands_for:
        lines.append("  stands for:")
        lines += [f"    {other['item']}  {other['reason_code']}" for other in found.stands_for]
    lines.append("  beside:" if found.beside else "  nothing else resembles it")
    lines += [f"    {other['item']}  {_compared(edge)}" for edge, other in found.beside]
    version = f", version {row['rule_version']}" if row["rule_version"] else ""
    lines.append(
        f"  decided {row['time']} by medssl {row['code_version']}{version}, run {row['run_id']}; "
        f"signatures {row['signature_spec']}"
    )
    return lines


def write_explanation(path: Path, library: Path, found: Explanation) -> None:
    """Write an explanation as a page of its own, with the pictures of the volumes."""
    beside = [
        {
            "key": other["item"],
            "picture": _picture(library, other),
            "fate": _fate(other),
            "compared": _compared(edge),
            "said": KINDS[edge["kind"]],
        }
        for edge, other in found.beside
    ]
    write_page(
        path,
        "medssl.curation",
        template="explain.html",
        key=found.volume_key,
        fate=_fate(found.row),
        lines=as_text(found),
        picture=_picture(library, found.row),
        beside=beside,
    )


def _whole_key(folder: Path, item: str) -> str:
    keys = ledger.read_ledger(folder, ["item"])["item"]
    matches = keys.filter(pc.starts_with(keys, item)).slice(0, _SHOWN_MATCHES + 1).to_pylist()
    if item in matches:
        return item
    if len(matches) == 1:
        return str(matches[0])
    if matches:
        raise InputError(
            f"{item!r} begins the keys of several volumes: {', '.join(matches[:_SHOWN_MATCHES])}",
            hint="give more of the key",
        )
    raise InputError(
        f"the selection {folder.name!r} knows no volume {item!r}",
        hint="keys stand in ledger.parquet, their first letters in report.html; a volume that was "
        "ingested since needs a new selection",
    )


def _ledger_rows(folder: Path, column: str, values: list[str]) -> list[Row]:
    return _rows(folder / ledger.FILE, column, values)


def _rows(path: Path, column: str, values: list[str]) -> list[Row]:
    rows: list[Row] = []
    if values and path.is_file():
        rows = pq.read_table(path, filters=[(column, "in", values)]).to_pylist()
    return rows


def _other(edge: Row, key: str) -> str:
    return str(edge["volume_b"] if edge["volume_a"] == key else edge["volume_a"])


def _fate(row: Row) -> str:
    where = f", in {row['split']}" if row["decision"] == "keep" else ""
    beside = f" {row['representative']}" if row["representative"] else ""
    return f"{DECIDED[row['decision']]}{beside}{where}"


def _described(scan: Row) -> str:
    if not scan:
        return " (the library has it no more)"
    shape = "x".join(str(scan[f"shape_{axis}"]) for axis in "ijk")
    spacing_mm = " x ".join(f"{scan[f'spacing_{axis}_mm']:.2f}" for axis in "ijk")
    return f": {scan['modality']}, {shape} voxels of {spacing_mm} mm"


def _compared(edge: Row) -> str:
    score, threshold = edge["score"], edge["threshold"]
    if score is None or score != score:  # noqa: PLR0124  not a number
        measured = "not compared"
    elif score == threshold == 1:
        measured = "equal voxels"
    else:
        measured = (
            f"correlation {score:.3f}, a copy from {threshold:.3f}; "
            f"moved by {edge['motion_voxels']:.2f} voxels; "
            f"signatures differ in {edge['bits_full']} and {edge['bits_bbox']} of 256 bits"
            + (f"; {edge['shared_slices']} slices in common" if edge["shared_slices"] else "")
        )
    so = "they only share a split"
    if edge["drops"]:
        so = "one is another view of the other" if edge["kind"] in DEMOTES else "one is dropped"
    return f"{edge['kind']}: {measured}; {so}"


def _or_zero(score: float | None) -> float:
    return score if score is not None and score == score else 0.0  # noqa: PLR0124


def _picture(library: Path, row: Row) -> str:
    if row["stage"] == "withdrawal":
        return ""
    try:
        return data_uri(read_picture(library, str(row["item"])))
    except MedSSLError:  # a damaged file: the page says so in its place
        return ""
