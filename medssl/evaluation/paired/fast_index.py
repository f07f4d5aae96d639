"""What is nearest to a vector, without comparing every row.

With faiss (Douze et al. 2024, arXiv:2401.08281), an extra.

    FOLDER/images.faiss     of the studies' images
    FOLDER/reports.faiss    of their reports, where there are any

Suffixes: N rows, D numbers of a vector.
"""

import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from medssl.errors import InputError
from medssl.runs.digest import digest_file
from medssl.runs.folder import atomic_path

Kind = Literal["exact", "flat", "hnsw", "ivf"]
"""``exact``: no faiss; ``flat``: faiss, and still every row."""
LINKS: Final = 32
"""Neighbours of each row of a graph."""
VISITED_BUILDING, VISITED = 200, 256
"""Rows that are kept in mind to build a graph, and to search it; the more, the surer."""
ROWS_PER_CELL: Final = 39
"""Fewest rows that faiss wants to learn where a cell lies."""
CELLS_LOOKED_AT: Final = 8
"""One in so many cells."""


def fast_file(folder: Path, among: str) -> Path:
    """Return where the index of images, or of reports, lies."""
    return folder / f"{among}.faiss"


def write_fast(folder: Path, kind: Kind, rows: Mapping[str, NDArray[np.float32]]) -> dict[str, str]:
    """Write an index for each kind of row; return their digests, SHA-256 (hex).

    Rows with NaN are left out, and an index without any row is not written.

    Args:
        folder: Where.
        kind: ``flat``, ``hnsw`` (Malkov & Yashunin 2016, arXiv:1603.09320) or ``ivf``, inverted
            lists.
        rows: Unit vectors ``(N, D)`` by what they are of.

    Raises:
        InputError: faiss is not installed.
    """
    faiss, digests = load_faiss(), dict[str, str]()
    for among, rows_ND in rows.items():
        there_N = np.isfinite(rows_ND).all(axis=1)
        if not there_N.any():
            continue
        known_ND = np.ascontiguousarray(rows_ND[there_N], np.float32)
        index = faiss.IndexIDMap2(_empty(faiss, kind, *known_ND.shape))
        index.train(known_ND)
        index.add_with_ids(known_ND, np.flatnonzero(there_N).astype(np.int64))
        with atomic_path(fast_file(folder, among)) as partial:
            faiss.write_index(index, str(partial))
        digests[among] = digest_file(fast_file(folder, among))
    return digests


def read_fast(folder: Path, digests: Mapping[str, str]) -> dict[str, Any]:
    """Return the indexes that :func:`write_fast` wrote.

    Raises:
        InputError: faiss is not installed, or a file is missing or was changed.
    """
    faiss, found = load_faiss(), dict[str, Any]()
    for among, digest in digests.items():
        path = fast_file(folder, among)
        if not path.is_file() or digest_file(path) != digest:
            raise InputError(
                f"{path}: it is missing, or is not what `medssl embed` wrote",
                hint="make the index again with `medssl embed`",
            )
        found[among] = faiss.read_index(str(path))
    return found


def nearest_rows(
    index: Any, query_D: NDArray[np.float64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return up to k rows that are nearest to a vector, nearest first, and their cosines."""
    cosine_1K, row_1K = index.search(query_D.astype(np.float32)[None], min(k, index.ntotal))
    found_K = row_1K[0] >= 0  # a search that visits few cells may find less than k
    return row_1K[0][found_K], cosine_1K[0][found_K].astype(np.float64)


def load_faiss() -> Any:
    """Return the package.

    Raises:
        InputError: It is not installed.
    """
    try:
        return import_module("faiss")
    except ImportError:
        raise InputError(
            "faiss is not installed, and this index needs it",
            hint='install it with `pip install "medssl[index]"`, or set index to exact',
        ) from None


def _empty(faiss: Any, kind: Kind, rows: int, width: int) -> Any:
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(width, LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = VISITED_BUILDING, VISITED
        return graph
    if kind == "ivf":
        cells = max(1, min(4 * math.isqrt(rows), rows // ROWS_PER_CELL))
        middles = faiss.IndexFlatIP(width)
        lists = faiss.IndexIVFFlat(middles, width, cells, faiss.METRIC_INNER_PRODUCT)
        lists.nprobe = max(1, math.ceil(cells / CELLS_LOOKED_AT))
        return lists
    return faiss.IndexFlatIP(width)
