"""What became of every file: converted, skipped or quarantined, and why."""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from medssl.errors import InputError
from medssl.runs.folder import atomic_path

if TYPE_CHECKING:  # slow to import, and workers do without it
    import pandas as pd

Outcome = Literal["converted", "skipped", "quarantined"]

TABLE, REJECTED, PATHS = "files.parquet", "quarantine.csv", Path("private", "files.csv")

COLUMNS: dict[str, pa.DataType] = {
    "file_key": pa.string(),
    "outcome": pa.string(),
    "reason_code": pa.string(),
    "reason": pa.string(),
    "volume_key": pa.string(),
    "bytes": pa.int64(),
    "source_format": pa.string(),
    "stamp": pa.string(),
}


@dataclass(frozen=True, kw_only=True)
class FileOutcome:
    """The one row of one file.

    Only a converted file has a volume. It has a reason too where a part of it was refused: one
    of the stacks of a multi-frame file.
    """

    file_key: str
    outcome: Outcome
    reason_code: str = ""
    reason: str = ""
    volume_key: str = ""
    """The volume it became part of; the first, for a file of several."""
    bytes: int
    source_format: str
    """dicom, nifti, or "" for neither."""
    stamp: str = ""
    """Changes when the file does, or a setting that matters: it is then read again."""


def write_outcomes(library: Path, outcomes: Sequence[FileOutcome]) -> None:
    """Write ``files.parquet``, and what was rejected of it as ``quarantine.csv`` for people."""
    rows = [vars(row) for row in sorted(outcomes, key=lambda row: row.file_key)]
    table = pa.Table.from_pylist(rows, schema=pa.schema(COLUMNS.items()))
    with atomic_path(Path(library) / TABLE) as partial:
        pq.write_table(table, partial)
    rejected = sorted(
        (row for row in rows if row["reason_code"]),
        key=lambda row: (row["outcome"], row["reason_code"], row["file_key"]),
    )
    columns = ["outcome", "reason_code", "reason", "file_key", "bytes", "source_format"]
    with atomic_path(Path(library) / REJECTED) as partial:
        _write_csv(partial, columns, rejected)


def read_outcomes(library: Path) -> "pd.DataFrame":
    """Return ``files.parquet``: one row per file seen.

    Raises:
        InputError: when there is none.
    """
    path = Path(library) / TABLE
    if not path.is_file():
        raise InputError(f"{library} holds no table of files", hint="run `medssl ingest` first")
    frame: pd.DataFrame = pq.read_table(path).to_pandas()
    return frame


def read_settled(library: Path) -> list[FileOutcome]:
    """Return the rows of files that did not become volumes; none where nothing was ingested."""
    path = Path(library) / TABLE
    rows = pq.read_table(path).to_pylist() if path.is_file() else []
    return [FileOutcome(**row) for row in rows if row["outcome"] != "converted"]


def counts_by_reason(outcomes: Iterable[FileOutcome]) -> dict[str, int]:
    """Return how many files were rejected for each reason, the most frequent first."""
    counted = Counter(row.reason_code for row in outcomes if row.outcome != "converted")
    return dict(counted.most_common())


def write_paths(library: Path, paths: Mapping[str, str], outcomes: Sequence[FileOutcome]) -> None:
    """Write ``private/files.csv``, readable by its owner only: where each file lies.

    A path may hold a name, so no other file of the library has any. Each row repeats what became
    of the file, for the person who has to mend it.

    Args:
        library: the library's folder.
        paths: file_key to absolute path.
        outcomes: what is known so far; files without an outcome are listed too.
    """
    known = {row.file_key: row for row in outcomes}
    rows = []
    for file_key, path in sorted(paths.items(), key=lambda item: item[1]):
        row = known.get(file_key)
        rows.append(
            {
                "file_key": file_key,
                "outcome": row.outcome if row else "",
                "reason_code": row.reason_code if row else "",
                "reason": row.reason if row else "",
                "path": path,
            }
        )
    target = Path(library) / PATHS
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with atomic_path(target) as partial:
        os.close(os.open(partial, os.O_CREAT | os.O_WRONLY, 0o600))
        _write_csv(partial, ["file_key", "outcome", "reason_code", "reason", "path"], rows)


def read_paths(library: Path) -> dict[str, str]:
    """Return file_key to path, empty where nothing was ingested yet."""
    path = Path(library) / PATHS
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {row["file_key"]: row["path"] for row in csv.DictReader(file)}


def _write_csv(path: Path, columns: list[str], rows: Iterable[Mapping[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
