"""A selection: which volumes of a library are kept, in which split, and why the others are not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from medssl.errors import InputError
from medssl.runs.digest import digest_json
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
}
"""``group_key`` names what had to stay together; ``alternates`` are the dropped volumes that this
one stands for."""

EXCLUDED_COLUMNS: Final[Mapping[str, pa.DataType]] = {
    "volume_key": pa.string(),
    "patient_key": pa.string(),
    "modality": pa.string(),
    "reason_code": pa.string(),
    "reason": pa.string(),
    "representative_key": pa.string(),
    "score": pa.float64(),
    "threshold": pa.float64(),
}
"""``representative_key`` is the kept volume that shows the same, empty where a rule excluded."""

PAIR_COLUMNS: Final[Mapping[str, pa.DataType]] = {
    "volume_a": pa.string(),
    "volume_b": pa.string(),
    "kind": pa.string(),
    "drops": pa.bool_(),
    "bits_full": pa.int32(),
    "bits_bbox": pa.int32(),
    "ncc_physical": pa.float64(),
    "ncc_index": pa.float64(),
    "score": pa.float64(),
    "threshold": pa.float64(),
}


@dataclass(frozen=True)
class Selection:
    """What ``medssl curate`` decided about a library."""

    kept: pd.DataFrame
    excluded: pd.DataFrame
    digest: str
    """Of the kept volumes' voxels, patients and splits: what training depends on."""


def selection_folder(library: Path, name: str) -> Path:
    """Return where the selection ``name`` of ``library`` lies."""
    return Path(library) / "selections" / name


def read_selection(library: Path, name: str) -> Selection:
    """Return the selection ``name`` of ``library``.

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
    kept, excluded = (
        pq.read_table(folder / f"{table}.parquet").to_pandas() for table in ("kept", "excluded")
    )
    return Selection(kept, excluded, selection_digest(kept.to_dict(orient="records")))


def selection_digest(kept: Iterable[Mapping[str, Any]]) -> str:
    """Return the digest of rows with ``KEPT_COLUMNS``, whatever their order."""
    columns = ("volume_key", "patient_key", "voxel_digest", "split")
    return digest_json(sorted([row[column] for column in columns] for row in kept))


def write_table(
    path: Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, pa.DataType]
) -> None:
    """Write ``rows`` as Parquet, whole or not at all; every row has exactly these columns."""
    table = pa.Table.from_pylist(list(rows), schema=pa.schema(list(columns.items())))
    with atomic_path(path) as partial:
        pq.write_table(table, partial)
