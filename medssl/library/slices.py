"""The table of slices: which file each slice of a volume was read from, and what it looks like."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from medssl.errors import InputError
from medssl.library.fingerprints.perceptual import SPEC
from medssl.library.volumes import read_slices
from medssl.runs.folder import atomic_path

if TYPE_CHECKING:  # slow to import, and workers do without it
    import pandas as pd

FILE = "slices.parquet"
_SPEC_KEY = b"medssl.signature_spec"

COLUMNS: dict[str, pa.DataType] = {
    "volume_key": pa.string(),
    "index": pa.int32(),
    "slice_axis": pa.int8(),
    "file_key": pa.string(),
    "frame_index": pa.int32(),
    "instance_key": pa.string(),
    "filled": pa.bool_(),
    "slice_digest": pa.string(),
    "slice_key": pa.binary(8),
    "slice_dct256": pa.binary(32),
    "foreground": pa.float32(),
}
"""``index`` counts along ``slice_axis`` of the stored array; ``frame_index`` is null for a file
of one slice; a ``filled`` slice was interpolated, and its file is the nearest one. The slices of
a NIfTI file have a digest, and no file of their own. ``slice_key``, to be compared for equality,
and ``slice_dct256``, by its bits, are those of ``fingerprints.slice_dct256``; both mean nothing
where ``foreground``, the share of the slice that is not air, is next to nothing."""


def write_slices(library: Path, keys: Collection[str], *, fresh: Collection[str]) -> list[str]:
    """Write the table of the volumes ``keys``, from their own records; sorted, whole or not at all.

    Args:
        library: the library's folder.
        keys: the volumes of the catalog.
        fresh: those that were written since the table was; of others its rows are kept.

    Returns:
        Which volumes have no rows, because their files are damaged.
    """
    path = Path(library) / FILE
    schema = pa.schema(COLUMNS.items()).with_metadata({_SPEC_KEY: SPEC})
    kept = pq.read_table(path) if is_current(library) else schema.empty_table()
    known = set(kept["volume_key"].unique().to_pylist()) - set(fresh)
    keep = pa.array(sorted(known & set(keys)), pa.string())
    kept = kept.filter(pa.compute.is_in(kept["volume_key"], keep))
    rows: list[dict[str, Any]] = []
    damaged = []
    for key in sorted(set(keys) - known):
        try:
            rows += _rows(library, key)
        except InputError:
            damaged.append(key)
    table = pa.concat_tables([kept, pa.Table.from_pylist(rows, schema=schema)])
    with atomic_path(path) as partial:
        pq.write_table(
            table.sort_by([("volume_key", "ascending"), ("index", "ascending")]), partial
        )
    return damaged


def is_current(library: Path) -> bool:
    """Return whether there is a whole table, with signatures of the current spec."""
    try:
        found = pq.read_schema(Path(library) / FILE)
    except (pa.ArrowException, OSError):
        return False
    spec: bytes = (found.metadata or {}).get(_SPEC_KEY, b"")
    return spec.decode() == SPEC and list(found.names) == list(COLUMNS)


def read_slice_table(library: Path) -> "pd.DataFrame":
    """Return ``slices.parquet``.

    Raises:
        InputError: when there is none, it is damaged, or its signatures are of another spec.
    """
    frame: pd.DataFrame = read_slice_rows(library).to_pandas()
    return frame


def read_slice_rows(library: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return ``slices.parquet`` as an Arrow table, or these columns of it: for millions of rows.

    Raises:
        InputError: as ``read_slice_table``.
    """
    path = Path(library) / FILE
    if not path.is_file():
        raise InputError(f"{library} holds no table of slices", hint="run `medssl ingest` first")
    if not is_current(library):
        raise InputError(
            f"the table of slices of {library} is damaged, or of another version of medssl",
            hint="run the same `medssl ingest` again: it writes the table anew, from the library's "
            "own volumes",
        )
    try:
        return pq.read_table(path, columns=list(columns) if columns is not None else None)
    except (pa.ArrowException, OSError):
        raise InputError(
            f"the table of slices of {library} is damaged",
            hint=f"delete {FILE} and run the same `medssl ingest` again: it writes it anew",
        ) from None


def _rows(library: Path, volume_key: str) -> Iterator[dict[str, Any]]:
    record = read_slices(library, volume_key)
    seen = record.perceptual
    for index, digest in enumerate(record.digests):
        yield {
            "volume_key": volume_key,
            "index": index,
            "slice_axis": record.axis,
            **(asdict(record.sources[index]) if record.sources else {}),
            "slice_digest": digest,
            "slice_key": seen.slice_keys[index] if seen else None,
            "slice_dct256": seen.slice_signatures[index] if seen else None,
            "foreground": seen.slice_foreground[index] if seen else None,
        }
