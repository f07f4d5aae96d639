"""The table of slices: which file each slice of a volume was read from, and what it looks like."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
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
_SOURCE = ("file_key", "frame_index", "instance_key", "filled")
_VOLUMES_AT_ONCE = 256
"""Their rows are a group of rows of the file."""

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


SCHEMA = pa.schema(COLUMNS.items()).with_metadata({_SPEC_KEY: SPEC})


def write_slices(library: Path, keys: Collection[str], *, fresh: Collection[str]) -> list[str]:
    """Write the table of the volumes ``keys``, from their own records; sorted, whole or not at all.

    However many there are, the rows of only some volumes lie in memory at once.

    Args:
        library: the library's folder.
        keys: the volumes of the catalog.
        fresh: those that were written since the table was; of others its rows are kept.

    Returns:
        Which volumes have no rows, because their files are damaged.
    """
    path = Path(library) / FILE
    known = _volumes_of(path) - set(fresh) if is_current(library) else frozenset()
    ordered, damaged = sorted(set(keys)), []
    with atomic_path(path) as partial, _writer(partial) as writer:
        for start in range(0, len(ordered), _VOLUMES_AT_ONCE):
            lot = ordered[start : start + _VOLUMES_AT_ONCE]
            parts = [_kept(path, [key for key in lot if key in known])]
            there = set(parts[0]["volume_key"].unique().to_pylist())
            for key in lot:
                try:
                    parts += [] if key in there else [_rows(library, key)]
                except InputError:
                    damaged.append(key)
            order = [("volume_key", "ascending"), ("index", "ascending")]
            writer.write_table(pa.concat_tables(parts).sort_by(order))
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


def read_slice_rows(
    library: Path, columns: Sequence[str] | None = None, filters: Sequence[Any] | None = None
) -> pa.Table:
    """Return ``slices.parquet`` as an Arrow table, or a part of it: for millions of rows.

    Args:
        library: the library's folder.
        columns: those wanted, or all.
        filters: of the rows, as ``pyarrow.parquet.read_table`` takes them.

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
    with damage_named(path):
        return pq.read_table(
            path,
            columns=list(columns) if columns is not None else None,
            filters=list(filters) if filters is not None else None,
            page_checksum_verification=True,
        )


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Say what to do where reading the table at ``path`` failed because it is damaged.

    For readers of any kind, such as a database: where they fail, the table is read once more, and
    only if it is the table's fault, that is what is said.

    Raises:
        InputError: in this case; else what was raised within.
    """
    try:
        yield
    except Exception as error:
        if _is_whole(path):
            raise
        raise InputError(
            f"the table of slices of {path.parent} is damaged",
            hint=f"delete {path.name} and run the same `medssl ingest` again: it writes it anew",
        ) from error


def _is_whole(path: Path) -> bool:
    try:
        for _ in pq.ParquetFile(path, page_checksum_verification=True).iter_batches():
            pass
    except (pa.ArrowException, OSError):
        return False
    return True


def _writer(path: Path) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, SCHEMA, write_page_checksum=True)


def _rows(library: Path, volume_key: str) -> pa.Table:
    record = read_slices(library, volume_key)
    count, seen = len(record.digests), record.perceptual
    sources = [asdict(source) for source in record.sources] or [{}] * count
    nothing = [None] * count
    columns = {
        "volume_key": [volume_key] * count,
        "index": list(range(count)),
        "slice_axis": [record.axis] * count,
        **{name: [source.get(name) for source in sources] for name in _SOURCE},
        "slice_digest": record.digests,
        "slice_key": seen.slice_keys if seen else nothing,
        "slice_dct256": seen.slice_signatures if seen else nothing,
        "foreground": seen.slice_foreground if seen else nothing,
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)


def _volumes_of(path: Path) -> set[str]:
    """Return the volumes of a table; none where it cannot be read."""
    try:
        column = pq.read_table(path, columns=["volume_key"], read_dictionary=["volume_key"])
    except (pa.ArrowException, OSError):
        return set()
    return {str(key) for key in column["volume_key"].unique().to_pylist()}


def _kept(path: Path, keys: Sequence[str]) -> pa.Table:
    """Return the rows of some neighbouring volumes of a table; none where it is damaged there."""
    if not keys:
        return SCHEMA.empty_table()
    between = [("volume_key", ">=", keys[0]), ("volume_key", "<=", keys[-1])]
    try:
        found = pq.read_table(path, filters=between, page_checksum_verification=True)
    except (pa.ArrowException, OSError):
        return SCHEMA.empty_table()
    return found.filter(pa.compute.is_in(found["volume_key"], pa.array(keys, pa.string())))
