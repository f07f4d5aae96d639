"""A selection: which volumes of a library are kept, in which split, and what they are tied to.

Why the others are not is in the ledger (see ``ledger``).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from medssl.curation.edges import Edge
from medssl.errors import InputError
from medssl.runs.folder import atomic_path
from medssl.runs.manifest import Manifest

KEPT_COLUMNS: Final[Mapping[str, pa.DataType]] = {
    "volume_key": pa.string(),
    "patient_key": pa.string(),
    "study_key": pa.string(),
    "series_key": pa.string(),
    "modality": pa.string(),
    "intensity": pa.string(),
    "voxel_digest": pa.string(),
    "split": pa.string(),
    "group_key": pa.string(),
    "alternates": pa.list_(pa.string()),
    "views": pa.list_(pa.string()),
}
"""``group_key`` names what had to stay together; ``alternates`` are the volumes that this one
stands for, and ``views`` those of them that show the scan otherwise: natural second views of it."""

_NUMBERS: Final[Mapping[object, pa.DataType]] = {
    bool: pa.bool_(),
    int: pa.int32(),
    float: pa.float64(),
}
EDGE_COLUMNS: Final[Mapping[str, pa.DataType]] = {
    field.name: _NUMBERS.get(field.type, pa.string()) for field in fields(Edge)
}

WITHDRAWN = "withdrawn.txt"
"""Beside the selections: keys of patients and volumes that none may hold, one a line."""
_ROWS_AT_ONCE = 32_768


@dataclass(frozen=True)
class Selection:
    """What ``medssl curate`` decided about a library."""

    kept: pd.DataFrame
    digest: str
    """Of the kept volumes' voxels, patients and splits: what training depends on."""


def selection_folder(library: Path, name: str) -> Path:
    """Return where the selection ``name`` of ``library`` lies."""
    return Path(library) / "selections" / name


def read_selection(library: Path, name: str) -> Selection:
    """Return the selection ``name`` of ``library``.

    Raises:
        InputError: when there is none, making it did not finish, its table is damaged, or it holds
            what was withdrawn since.
    """
    folder = finished_folder(library, name)
    table = read_kept(folder)
    _refuse_withdrawn(library, name, table)
    return Selection(table.to_pandas(), selection_digest(_rows(table)))


def finished_folder(library: Path, name: str) -> Path:
    """Return the folder of the selection ``name`` of ``library``.

    Raises:
        InputError: when there is none, or making it did not finish.
    """
    folder = selection_folder(library, name)
    manifest = Manifest.read(folder)
    if manifest is None:
        parent = folder.parent
        others = sorted(p.parent.name for p in parent.glob("*/manifest.json"))
        hint = f"it has: {', '.join(others)}" if others else "run `medssl curate` first"
        raise InputError(f"the library has no selection {name!r}", hint=hint)
    if manifest.status != "finished":
        raise InputError(
            f"the selection {name!r} is not finished", hint="run `medssl curate` again"
        )
    return folder


def read_kept(folder: Path) -> pa.Table:
    """Return ``kept.parquet`` of the selection in ``folder``.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return pq.read_table(folder / "kept.parquet")
    except (pa.ArrowException, OSError):
        raise InputError(
            f"the table of the selection {folder.name!r} is missing or damaged",
            hint="make it again: the same `medssl curate`, with --overwrite",
        ) from None


def digest_of_kept(folder: Path) -> str:
    """Return ``selection_digest`` of what is in ``folder``."""
    return selection_digest(_rows(read_kept(folder)))


def withdrawn_keys(library: Path) -> frozenset[str]:
    """Return the keys of the patients and volumes that were withdrawn from ``library``."""
    path = Path(library) / "selections" / WITHDRAWN
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else frozenset()


def selection_digest(kept: Iterable[Mapping[str, Any]]) -> str:
    """Return the digest of rows with ``KEPT_COLUMNS``, whatever their order."""
    columns = ("volume_key", "patient_key", "voxel_digest", "split")
    digest = hashlib.sha256()
    for values in sorted(tuple(row[column] for column in columns) for row in kept):
        digest.update(json.dumps(values, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()


def write_table(
    path: Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, pa.DataType]
) -> int:
    """Write ``rows`` as Parquet, whole or not at all, and return how many there were.

    Every row has exactly these columns; few are in memory at a time.
    """
    schema, rest, count = pa.schema(list(columns.items())), iter(rows), 0
    with atomic_path(path) as partial, pq.ParquetWriter(partial, schema) as file:
        while batch := [dict(row) for row in islice(rest, _ROWS_AT_ONCE)]:
            file.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def _refuse_withdrawn(library: Path, name: str, kept: pa.Table) -> None:
    keys = withdrawn_keys(library)
    columns = (kept[column].to_pylist() for column in ("volume_key", "patient_key"))
    found = sum(not keys.isdisjoint(row) for row in zip(*columns, strict=True)) if keys else 0
    if found:
        raise InputError(
            f"the selection {name!r} holds {found} volume(s) that were withdrawn since",
            hint=f"make a new one: medssl curate LIBRARY --name NEW based_on={name}, where it was "
            "released; otherwise the same command with --overwrite",
        )


def _rows(table: pa.Table) -> Iterable[Mapping[str, Any]]:
    for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
        yield from batch.to_pylist()
