"""Which volumes show one scan: candidates, their verification, and who stands for whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from medssl.curation.edges import (
    Edge,
    NearDuplicateConfig,
    comparable,
    identical_volumes,
    judge,
)
from medssl.curation.leaders import leaders, rank_key, trust_key
from medssl.curation.neighbours import candidates
from medssl.curation.rules.base import CatalogRow
from medssl.curation.verification import Agreement, compare
from medssl.errors import MedSSLError
from medssl.library.volumes import read_volume
from medssl.runs.progress import task
from medssl.runs.workers import map_unordered

FEW_PAIRS = 16


@dataclass(frozen=True)
class Duplicates:
    """What ``find_duplicates`` found."""

    edges: list[Edge]
    """Sorted by their volumes."""
    representative: dict[str, str] = field(default_factory=dict)
    """Of every dropped volume: the kept one that shows the same."""
    alternate_of: dict[str, str] = field(default_factory=dict)
    """Of every demoted volume: the kept one that it is another view of."""


class Candidate(NamedTuple):
    """Two volumes whose signatures are close."""

    volume_a: str
    volume_b: str
    bits_full: int
    bits_bbox: int


def find_duplicates(
    rows: Sequence[CatalogRow],
    slices: pa.Table | None,
    library: Path,
    config: NearDuplicateConfig,
    workers: int | str = 0,
) -> Duplicates:
    """Find copies: first those of equal voxels, then those that comparing the voxels proves."""
    trusted = sorted(rows, key=trust_key)
    same = identical_volumes(trusted)
    twin_of = leaders(_keys(trusted), (edge.volumes for edge in same))
    rest = [row for row in rows if row["volume_key"] not in twin_of]
    near = near_duplicates(rest, library, config, workers)
    ranked = _keys(sorted(rest, key=rank_key))
    near_of = leaders(ranked, (edge.volumes for edge in near if edge.drops))
    # A twin of a dropped volume shows what that one's representative shows.
    twin_of = {key: near_of.get(twin, twin) for key, twin in twin_of.items()}
    return Duplicates(sorted(same + near, key=lambda edge: edge.volumes), twin_of | near_of)


def near_duplicates(
    rows: Sequence[CatalogRow], library: Path, config: NearDuplicateConfig, workers: int | str
) -> list[Edge]:
    """Return the edges between volumes of close signatures, after a look at their voxels."""
    row_of = {str(row["volume_key"]): row for row in rows}
    keys = sorted(row_of)
    close = candidates(
        [row_of[key]["dct_full"] for key in keys],
        [row_of[key]["dct_bbox"] for key in keys],
        config.max_bits,
    )
    pairs = [
        Candidate(keys[i], keys[j], full, bbox)
        for i, j, full, bbox in close
        if comparable(row_of[keys[i]], row_of[keys[j]])
    ]
    edges = []
    with task("compare volumes", len(pairs)) as work:
        verify = partial(_verify, library)
        # A process takes as long to start as a few pairs take to compare.
        workers = 1 if len(pairs) < FEW_PAIRS else workers
        for pair, agreement in map_unordered(verify, pairs, workers=workers, shared=[library]):
            edge = _edge(pair, agreement, row_of, config)
            edges += [edge] if edge else []
            work.advance()
    return sorted(edges, key=lambda edge: edge.volumes)


def _keys(rows: Sequence[CatalogRow]) -> list[str]:
    return [str(row["volume_key"]) for row in rows]


def _verify(library: Path, pair: Candidate) -> tuple[Candidate, Agreement | None]:
    try:
        a, b = (read_volume(library, key) for key in (pair.volume_a, pair.volume_b))
    except MedSSLError:  # a damaged file: prepare names it; here the two only stay together
        return pair, None
    return pair, compare(a, b)


def _edge(
    pair: Candidate,
    agreement: Agreement | None,
    row_of: Mapping[str, CatalogRow],
    config: NearDuplicateConfig,
) -> Edge | None:
    if agreement is None:
        unknown = float("nan")
        return Edge(
            **pair._asdict(),
            kind="unreadable",
            drops=False,
            ncc_physical=unknown,
            ncc_index=unknown,
            score=unknown,
            threshold=unknown,
        )
    verdict = judge(row_of[pair.volume_a], row_of[pair.volume_b], agreement, config)
    if verdict is None:
        return None
    kind, drops, threshold = verdict
    return Edge(
        **pair._asdict(),
        kind=kind,
        drops=drops,
        ncc_physical=agreement.ncc_physical,
        ncc_index=agreement.ncc_index,
        score=agreement.score,
        threshold=threshold,
    )
