"""The table of slices: of every volume, which file each slice was read from."""

from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from medssl.errors import InputError
from medssl.library.volumes import read_slices
from medssl.runs.folder import atomic_path

if TYPE_CHECKING:  # slow to import, and workers do without it
    import pandas as pd

FILE = "slices.parquet"

COLUMNS: dict[str, pa.DataType] = {
    "volume_key": pa.string(),
    "index": pa.int32(),
    "slice_axis": pa.int8(),
    "file_key": pa.string(),
    "frame_index": pa.int32(),
    "instance_key": pa.string(),
    "filled": pa.bool_(),
    "slice_digest": pa.string(),
}
"""``index`` counts along ``slice_axis`` of the stored array; ``frame_index`` is null for a file
of one slice; a ``filled`` slice was interpolated, and its file is the nearest one. The slices of
a NIfTI file have a digest, and no file of their own."""


def write_slices(library: Path, keys: Collection[str], *, fresh: Collection[str]) -> None:
    """Write the table of the volumes ``keys``, from their own records; sorted, whole or not at all.

    Args:
        library: the library's folder.
        keys: the volumes of the catalog.
        fresh: those that were written since the table was; of others its rows are kept.
    """
    path = Path(library) / FILE
    schema = pa.schema(COLUMNS.items())
    kept = pq.read_table(path) if path.is_file() else schema.empty_table()
    known = set(kept["volume_key"].unique().to_pylist()) - set(fresh)
    keep = pa.array(sorted(known & set(keys)), pa.string())
    kept = kept.filter(pa.compute.is_in(kept["volume_key"], keep))
    rows = [row for key in sorted(set(keys) - known) for row in _rows(library, key)]
    table = pa.concat_tables([kept, pa.Table.from_pylist(rows, schema=schema)])
    with atomic_path(path) as partial:
        pq.write_table(
            table.sort_by([("volume_key", "ascending"), ("index", "ascending")]), partial
        )


def read_slice_table(library: Path) -> "pd.DataFrame":
    """Return ``slices.parquet``.

    Raises:
        InputError: when there is none.
    """
    path = Path(library) / FILE
    if not path.is_file():
        raise InputError(f"{library} holds no table of slices", hint="run `medssl ingest` first")
    frame: pd.DataFrame = pq.read_table(path).to_pandas()
    return frame


def _rows(library: Path, volume_key: str) -> Iterator[dict[str, Any]]:
    record = read_slices(library, volume_key)
    for index, digest in enumerate(record.digests):
        yield {
            "volume_key": volume_key,
            "index": index,
            "slice_axis": record.axis,
            **(asdict(record.sources[index]) if record.sources else {}),
            "slice_digest": digest,
        }
