"""Which volume stands for its copies: a leader is kept, whatever is close to a leader is not.

The kept ones are the lexicographically first maximal independent set in rank order. Going down the
ranking, an item is dropped if and only if a kept item of better rank is its copy, and the best
such item represents it. So every dropped item has a kept representative that it was compared
with; chains (a like b, b like c) never swallow c; and nothing depends on the order of files,
workers or edges.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from medssl.curation.edges import Edge
from medssl.curation.rules.base import CatalogRow, shape_of, spacing_mm_of


def leaders(ranked: Sequence[str], copies: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the dropped items, each with its representative.

    Args:
        ranked: Every item once, the best first.
        copies: Pairs of items that are copies of each other, in any order.
    """
    place = {item: rank for rank, item in enumerate(ranked)}
    better: dict[str, list[str]] = defaultdict(list)
    for a, b in copies:
        if place[a] != place[b]:
            worse, best = (a, b) if place[a] > place[b] else (b, a)
            better[worse].append(best)
    representative: dict[str, str] = {}
    for item in ranked:
        kept = [other for other in better[item] if other not in representative]
        if kept:
            representative[item] = min(kept, key=place.__getitem__)
    return representative


def leaders_in_rounds(ranked: Sequence[str], copies: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what ``leaders`` returns, found by rounds in which every item is looked at at once.

    In each round an undecided item is kept where no better neighbour is undecided or kept, and
    dropped where one is kept; a neighbour that was dropped says nothing. Rounds are few, as long
    chains of ever better neighbours are rare, and within one nothing waits for anything: this is
    the lexicographically first maximal independent set in parallel (G. Blelloch, J. Fineman and
    J. Shun, Greedy sequential maximal independent set and matching are parallel on average, 2012).
    """
    place = {item: rank for rank, item in enumerate(ranked)}
    pairs = [sorted((place[a], place[b])) for a, b in copies if a != b]
    best, worse = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    kept, dropped = np.zeros((2, len(place)), dtype=bool)
    undecided = ~(kept | dropped)
    while undecided.any():
        waits, falls = np.zeros((2, len(place)), dtype=bool)
        waits[worse[undecided[best]]] = True
        falls[worse[kept[best]]] = True
        dropped |= undecided & falls
        kept |= undecided & ~falls & ~waits
        undecided = ~(kept | dropped)
    leader = np.full(len(place), len(place), dtype=np.intp)
    np.minimum.at(leader, worse[kept[best]], best[kept[best]])
    return {ranked[item]: ranked[leader[item]] for item in np.flatnonzero(dropped).tolist()}


def may_drop(edge: Edge, place: Mapping[str, int]) -> bool:
    """Return whether one of an edge's volumes may be dropped for the other.

    A part is dropped for the whole, never the whole for its part, however well that ranks.

    Args:
        edge: Two volumes that are alike.
        place: The rank of every volume, 0 the best.
    """
    whole = next((key for key in edge.volumes if key != edge.part), "")
    return edge.drops and (not edge.part or place[whole] < place[edge.part])


def trust_key(row: CatalogRow) -> tuple[Any, ...]:
    """Return what volumes of equal voxels are ranked by: they differ in nothing but their headers.

    DICOM before NIfTI, and a measured spacing before 1 x 1 x 1 mm, which is what conversions write
    that lost it; a finer spacing is no merit here, it can only be a mistake in one of the two.
    """
    unmeasured = spacing_mm_of(row) == (1.0, 1.0, 1.0)
    return (row["source_format"] != "dicom", unmeasured, len(row["flags"]), row["volume_key"])


def rank_key(row: CatalogRow) -> tuple[Any, ...]:
    """Return what volumes are ranked by, the best first.

    An original before a derived image; HU before intensities of unknown scale; thin slices
    before thick ones; the finer voxel; the larger field of view; fewer remarks of the reader;
    DICOM, which knows its patient, before NIfTI; then the key, so that there are no ties.
    """
    i_mm, j_mm, k_mm = spacing_mm_of(row)
    voxel_mm3 = i_mm * j_mm * k_mm
    shape = shape_of(row)
    is_derived = "derived" in row["flags"] or "DERIVED" in str(row["image_type"]).upper()
    return (
        is_derived,
        row["intensity"] != "hu",
        round(max(i_mm, j_mm, k_mm), 1),
        round(voxel_mm3, 2),
        -round(shape[0] * shape[1] * shape[2] * voxel_mm3 / 1000),
        len(row["flags"]),
        row["source_format"] != "dicom",
        row["volume_key"],
    )
