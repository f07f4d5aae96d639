"""Which volume stands for its copies, also where some were promised a place before others came.

The ranking begins with a volume's standing: what a released selection keeps comes first, then what
was known when it was made, then newcomers. So a newcomer is dropped beside a released volume and
never the other way round; where the newcomer would have ranked better, that is said and not done.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set

from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.edges import Edge
from medssl.curation.leaders import leaders, may_drop, rank_key, trust_key
from medssl.curation.rules.base import CatalogRow

RELEASED, KNOWN, NEW = 0, 1, 2
"""Kept by the selection that this one is based on; known to it, not kept; unknown to it."""

EQUAL_VOXELS = frozenset(("identical", "re_export"))


def represent(
    rows: CatalogRows,
    edges: Iterable[Edge],
    standing: Mapping[str, int],
    untouchable: Set[str] = frozenset(),
) -> dict[str, str]:
    """Return of every volume that is not kept the kept one that shows the same.

    Args:
        rows: The volumes to choose from.
        edges: Between them; only those that drop count.
        standing: Of volumes that are not new.
        untouchable: Volumes that a person wants kept, whatever they are copies of.
    """
    twin_of = _twins(rows, standing, untouchable)
    near = [
        edge
        for edge in edges
        if edge.drops and edge.kind not in EQUAL_VOXELS and untouchable.isdisjoint(edge.volumes)
    ]
    # What holds of a volume holds of its twins: they show the same.
    one_of = {key: twin_of.get(key, key) for edge in near for key in edge.volumes}
    ranked = sorted(
        set(one_of.values()), key=lambda key: (standing.get(key, NEW), rank_key(rows.row(key)))
    )
    rank = {key: n for n, key in enumerate(ranked)}
    place = {key: rank[one] for key, one in one_of.items()}
    pairs = []
    for edge in near:
        a, b = (one_of[key] for key in edge.volumes)
        promised = standing.get(a) == standing.get(b) == RELEASED
        if may_drop(edge, place) and not promised:
            pairs.append((a, b))
    near_of = leaders(ranked, pairs)
    # A twin of a dropped volume shows what that one's representative shows.
    return {key: near_of.get(twin, twin) for key, twin in twin_of.items()} | near_of


def superseding(
    rows: CatalogRows, representative: Mapping[str, str], standing: Mapping[str, int]
) -> dict[str, str]:
    """Return the newcomers that rank better than the released volume that stands for them."""
    return {
        key: kept
        for key, kept in sorted(representative.items())
        if standing.get(key, NEW) == NEW
        and standing.get(kept) == RELEASED
        and _is_better(rows.row(key), rows.row(kept))
    }


def _is_better(a: CatalogRow, b: CatalogRow) -> bool:
    by = trust_key if a["voxel_digest"] == b["voxel_digest"] else rank_key
    return by(a) < by(b)


def _twins(rows: CatalogRows, standing: Mapping[str, int], untouchable: Set[str]) -> dict[str, str]:
    """Return of every volume of equal voxels, but one, the most trusted."""
    same: dict[str, list[str]] = defaultdict(list)
    seen: dict[str, str] = {}
    for key, digest in zip(rows.keys, rows.values("voxel_digest"), strict=True):
        first = seen.setdefault(digest, key)
        if first != key:
            same[first].append(key)
    twin_of: dict[str, str] = {}
    for first, others in same.items():
        keys = [first, *others]
        best = min(keys, key=lambda key: (standing.get(key, NEW), trust_key(rows.row(key))))
        twin_of |= {key: best for key in keys if key not in {best, *untouchable}}
    return twin_of
