"""Which volumes to keep where an archive holds more of one kind than training can use."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from medssl.curation.diversity.base import Diversity
from medssl.errors import InputError


class Surplus(NamedTuple):
    """Why a volume is not kept: a kept one is the nearest to it of those that are."""

    representative: str
    cosine: float


def surplus_volumes(
    config: Diversity.Config, rows: Sequence[Mapping[str, Any]], table: Path | None = None
) -> dict[str, Surplus]:
    """Return the volumes that are left out, each with the nearest kept one.

    Args:
        config: How to choose, and how many.
        rows: Rows of the catalog; copies should be gone, they would weigh double.
        table: Parquet file of embeddings: ``volume_key``, ``embedding`` and any number of rows per
            volume, of which the mean counts. Without one, the 256 bits of a volume's signature are
            its embedding: its coarse shape.

    Raises:
        InputError: The table is none, or lacks a volume.
    """
    if not rows:
        return {}
    keys = [str(row["volume_key"]) for row in rows]
    embeddings_ND = embeddings_of(table, keys) if table else signature_embeddings(rows)
    # Named by content, so that another key of the pseudonyms keeps the same scans.
    names = [f"{row['voxel_digest']} {key}" for row, key in zip(rows, keys, strict=True)]
    chooser: Diversity = config.build()
    chosen = chooser.choose(embeddings_ND, names)
    return {
        keys[n]: Surplus(keys[chosen.representative[n]], float(chosen.cosine[n]))
        for n in np.flatnonzero(~chosen.kept)
    }


def signature_embeddings(rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Return (N, 256) the bits of the volumes' signatures as -1 and 1."""
    words = np.frombuffer(b"".join(row["dct_full"] for row in rows), np.uint8)
    bits = np.unpackbits(words.reshape(len(rows), -1), axis=1).astype(np.float64)
    signs: NDArray[np.float64] = 2 * bits - 1
    return signs


def embeddings_of(table: Path, volume_keys: Sequence[str]) -> NDArray[np.float64]:
    """Return (N, D) the mean embedding of each volume.

    Raises:
        InputError: The table is none, or lacks a volume.
    """
    try:
        found = pq.read_table(table, columns=["volume_key", "embedding"])
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{table} is no Parquet file with the columns volume_key and embedding "
            f"({type(error).__name__})",
            hint="write it with pipelines/embed_slices.py",
        ) from None
    place_of = {key: n for n, key in enumerate(volume_keys)}
    places = np.array([place_of.get(key, -1) for key in found["volume_key"].to_pylist()], np.int64)
    used = places >= 0
    missing = len(volume_keys) - len(np.unique(places[used]))
    if missing:
        raise InputError(
            f"{table} lacks {missing} of {len(volume_keys)} volumes",
            hint="write it again for this library",
        )
    values = np.array(found.filter(pa.array(used))["embedding"].to_pylist(), np.float64)
    sums = np.zeros((len(volume_keys), values.shape[1]))
    np.add.at(sums, places[used], values)
    means: NDArray[np.float64] = sums / np.bincount(places[used], minlength=len(sums))[:, None]
    return means
