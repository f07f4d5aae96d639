"""Which volumes show one scan: candidates, a look at their voxels, a verdict on each pair."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import pyarrow as pa

from medssl.curation.acquisitions import Relation, relation
from medssl.curation.candidates import Candidate, candidates
from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.comparisons import Comparisons, content_key
from medssl.curation.edges import Edge, NearDuplicateConfig, Verdict, identical_volumes, judge
from medssl.curation.leaders import trust_key
from medssl.curation.verification import UNKNOWN, Agreement, Grid, agreement, prepare
from medssl.errors import MedSSLError
from medssl.library.volumes import read_volume, volume_path
from medssl.runs.progress import task
from medssl.runs.workers import INLINE, map_unordered

_log = logging.getLogger(__name__)

FEW_PAIRS = 16
"""A process takes as long to start as a few pairs take to compare."""
_GRIDS_AT_HAND: Final = 4
_MOST_TWINS_ASKED: Final = 8
_CAUTIOUS_FIRST: Final[tuple[Relation, ...]] = (
    "other_study",
    "other_acquisition",
    "one_patient",
    "same_acquisition",
    "strangers",
)


@dataclass(frozen=True)
class Duplicates:
    """What ``find_duplicates`` found."""

    edges: list[Edge]
    """Sorted by their volumes."""
    compared: int = 0
    """Pairs whose voxels were compared, in this run or an earlier one."""
    remembered: int = 0
    """Those of them that an earlier run had compared."""


def find_duplicates(
    rows: CatalogRows,
    slices: Path | pa.Table | None,
    library: Path,
    config: NearDuplicateConfig,
    workers: int | str = 0,
    *,
    settled: Set[str] = frozenset(),
    known: Sequence[Edge] = (),
) -> Duplicates:
    """Find what volumes are to each other; which of them is dropped, ``leaders`` decides.

    Of equal voxels one stands for all: edges lead from it to the others, and only it is compared
    with other voxels. The result depends on the rows, their voxels and the configuration alone.

    Args:
        rows: The volumes.
        slices: The table of slices, or its file; without it parts of a series are not found.
        library: Where the voxels are.
        config: When two volumes count as copies.
        workers: See ``medssl.runs.workers``.
        settled: Volumes that were compared with each other before.
        known: The edges between settled volumes.
    """
    twins = _twins(rows, settled)
    same = [
        edge
        for best, others in twins.items()
        for edge in identical_volumes([rows.row(best), *map(rows.row, others)])
    ]
    doubles = {key for others in twins.values() for key in others}
    single = rows.among([key for key in rows.keys if key not in doubles])
    pairs = candidates(single, slices, config, settled)
    near: list[Edge] = []
    remembered = 0
    for pair, found, earlier in measured(pairs, rows, library, workers):
        near += _edge(pair, found, rows, twins, config)
        remembered += earlier
    edges = {edge.volumes: edge for edge in (*same, *near)} | {edge.volumes: edge for edge in known}
    _log.info("%d pairs compared, %d of them earlier", len(pairs), remembered)
    return Duplicates([edges[pair] for pair in sorted(edges)], len(pairs), remembered)


def measured(
    pairs: Sequence[Candidate],
    rows: CatalogRows,
    library: Path,
    workers: int | str = 0,
) -> Iterator[tuple[Candidate, Agreement | None, bool]]:
    """Yield what comparing the voxels of each pair came to, and whether an earlier run did it.

    In no order. None where a file is damaged, or comparing killed its worker; what was measured is
    kept beside the library (see ``comparisons``).
    """
    comparisons = Comparisons(library)
    with task("compare volumes", len(pairs)) as work:
        todo = []
        for pair in pairs:
            name = content_key(rows.row(pair.volume_a), rows.row(pair.volume_b), pair.shared)
            found = comparisons.get(name)
            if found is None:
                todo.append((pair, name))
            else:
                work.advance()
                yield pair, found, True
        few = len(todo) < FEW_PAIRS and not isinstance(workers, str)
        results = map_unordered(
            partial(_measure, library),
            todo,
            workers=INLINE if few else workers,
            crashed=_gave_up,
            shared=[library],
        )
        for pair, name, found in results:
            if found is not None:
                comparisons.add(name, found)
            work.advance()
            yield pair, found, False


def _twins(rows: CatalogRows, settled: Set[str]) -> dict[str, list[str]]:
    """Return the volumes of equal voxels: the most trusted, a settled one first, and the others."""
    first: dict[str, str] = {}
    same: dict[str, list[str]] = defaultdict(list)
    for key, digest in zip(rows.keys, rows.values("voxel_digest"), strict=True):
        if first.setdefault(digest, key) != key:
            same[digest].append(key)
    twins = {}
    for digest, others in same.items():
        ranked = sorted(
            (first[digest], *others), key=lambda key: (key not in settled, trust_key(rows.row(key)))
        )
        twins[ranked[0]] = ranked[1:]
    return twins


def _measure(library: Path, todo: tuple[Candidate, str]) -> tuple[Candidate, str, Agreement | None]:
    pair, name = todo
    try:
        a, b = (_grid(library, key) for key in (pair.volume_a, pair.volume_b))
    except MedSSLError:  # a damaged file: prepare names it; here the two only stay together
        return pair, name, None
    return pair, name, agreement(a, b, pair.shared)


def _gave_up(todo: tuple[Candidate, str]) -> tuple[Candidate, str, Agreement | None]:
    """Return the result of a pair that killed its worker, most often for want of memory."""
    return *todo, None


def _grid(library: Path, key: str) -> Grid:
    try:
        stamp = volume_path(library, key).stat().st_mtime_ns
    except OSError:
        stamp = 0
    return _grid_at(library, key, stamp)


@lru_cache(maxsize=_GRIDS_AT_HAND)
def _grid_at(library: Path, key: str, stamp: int) -> Grid:
    """Return a volume as ``verification`` wants it; pairs are sorted, so that it is asked again."""
    del stamp
    return prepare(read_volume(library, key))


def _said(pair: Candidate, rows: CatalogRows, twins: Mapping[str, Sequence[str]]) -> Relation:
    """Return what headers say of the two: the most cautious of what those of their twins say."""
    sides = [
        [rows.row(key), *map(rows.row, twins.get(key, ())[:_MOST_TWINS_ASKED])]
        for key in (pair.volume_a, pair.volume_b)
    ]
    said = {relation(a, b) for a in sides[0] for b in sides[1]}
    return min(said, key=_CAUTIOUS_FIRST.index)


def _edge(
    pair: Candidate,
    found: Agreement | None,
    rows: CatalogRows,
    twins: Mapping[str, Sequence[str]],
    config: NearDuplicateConfig,
) -> Iterable[Edge]:
    """Yield the edge that a comparison comes to, if it comes to one."""
    a, b = rows.row(pair.volume_a), rows.row(pair.volume_b)
    if found is None:
        verdict: Verdict | None = Verdict("unreadable", False, UNKNOWN)
        found = Agreement(score=UNKNOWN)
    else:
        verdict = judge(a, b, _said(pair, rows, twins), found, config)
    if verdict is not None:
        yield Edge(
            volume_a=pair.volume_a,
            volume_b=pair.volume_b,
            kind=verdict.kind,
            drops=verdict.drops,
            part=verdict.part,
            bits_full=pair.bits_full,
            bits_bbox=pair.bits_bbox,
            shared_slices=pair.shared_count,
            ncc_physical=found.ncc_physical,
            ncc_index=found.ncc_index,
            ncc_slices=found.ncc_slices,
            motion_voxels=found.motion_voxels,
            score=found.score,
            threshold=verdict.threshold,
        )
