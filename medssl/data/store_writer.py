"""Write a crop store: volumes one by one, each whole or not at all; the index last."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from medssl.data.entry import StoreEntry, content_digest, entries_digest
from medssl.data.store import (
    ENTRIES,
    ENTRY_METADATA,
    FORMAT_VERSION,
    INDEX,
    VOLUMES,
    StoreIndex,
    read_own_entry,
    volume_file,
)
from medssl.errors import InputError
from medssl.runs.folder import atomic_path, write_json

BLOCK_IJK, CHUNK_VOXELS = (32, 32, 16), 128
# A crop costs every block it touches: flat ones decode a seventh faster than cubes of 32, for files
# of the same size, and smaller ones gain little more. LZ4HC decodes twice as fast as Zstandard and
# its files are 3 % larger (int16 CT).
COMPRESSION = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "filters": [blosc2.Filter.BITSHUFFLE]}


def write_stored_volume(store: Path, array_IJK: NDArray[Any], **about: Any) -> StoreEntry:
    """Write one volume and its entry into one file.

    Args:
        store: Folder of the store.
        array_IJK: Voxels, in the type to keep.
        about: The fields of ``StoreEntry`` that do not follow from the array.

    Returns:
        The entry, as it must stand in the index.
    """
    entry = StoreEntry(
        shape=_triple(array_IJK.shape),
        dtype=array_IJK.dtype.name,
        content_digest=content_digest(array_IJK),
        **about,
    )
    path = volume_file(store, entry.volume_key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        array = blosc2.asarray(
            np.ascontiguousarray(array_IJK),
            urlpath=str(unfinished),
            mode="w",
            chunks=tuple(min(CHUNK_VOXELS, length) for length in array_IJK.shape),
            blocks=tuple(map(min, BLOCK_IJK, array_IJK.shape)),
            cparams=blosc2.CParams(nthreads=1, **COMPRESSION),
        )
        array.schunk.vlmeta[ENTRY_METADATA] = entry.line
    return entry


def finished_entry(store: Path, volume_key: str) -> StoreEntry | None:
    """Return the entry of a volume that an earlier run wrote, or None if it must be written."""
    try:
        return read_own_entry(volume_file(store, volume_key))
    except InputError:
        return None


def write_index(store: Path, entries: Iterable[StoreEntry], spacing_mm: Sequence[float]) -> str:
    """Make a folder of volumes a store, and return its digest."""
    # by content, so that the order of training does not depend on the key of the pseudonyms
    rows = sorted(entries, key=lambda entry: (entry.content_digest, entry.volume_key))
    (store / VOLUMES).mkdir(parents=True, exist_ok=True)
    with atomic_path(store / ENTRIES) as unfinished:
        table = pa.Table.from_pylist([entry.model_dump(mode="json") for entry in rows])
        table = table.select([name for name in table.schema.names if _used(table[name])])
        pyarrow.parquet.write_table(table, unfinished)
    index = StoreIndex(
        format_version=FORMAT_VERSION,
        spacing_mm=_triple(spacing_mm),
        volumes=len(rows),
        digest=entries_digest(rows),
    )
    write_json(store / INDEX, index.model_dump(mode="json"))
    return index.digest


def _used(column: pa.ChunkedArray) -> bool:
    """Return whether any volume has this; an optional column would else have no type."""
    return bool(column.null_count < len(column))


def _triple(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    i, j, k = values
    return i, j, k
