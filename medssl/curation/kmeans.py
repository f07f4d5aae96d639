"""k-means in whole numbers: the same clusters on every machine."""

import numpy as np

from medssl.curation.diversity.base import Places, Whole, nearest_of


def kmeans(
    items_ND: Whole,
    clusters: int,
    rng: np.random.Generator,
    iterations: int,
    centres_KD: Whole | None = None,
) -> Whole:
    """Return at most ``clusters`` centres (Lloyd 1982), rounded to whole numbers.

    Args:
        items_ND: whole numbers.
        clusters: how many; fewer where items repeat or a cluster runs empty.
        rng: draws the first centres, each in proportion to its squared distance to those before
            (k-means++, Arthur and Vassilvitskii 2007).
        iterations: at most so many; it ends before, once nothing moves.
        centres_KD: centres to begin with instead.
    """
    centres = spread_out(items_ND, clusters, rng) if centres_KD is None else centres_KD
    for _ in range(iterations):
        moved = centroids(items_ND, nearest_of(items_ND, centres)[0], len(centres))
        if moved.shape == centres.shape and (moved == centres).all():
            break
        centres = moved
    return centres


def centroids(items_ND: Whole, cluster_N: Places, clusters: int) -> Whole:
    """Return the rounded mean of every cluster that has an item."""
    sums, counts = (
        np.zeros((clusters, items_ND.shape[1])),
        np.bincount(cluster_N, minlength=clusters),
    )
    np.add.at(sums, cluster_N, items_ND)
    there = counts > 0
    means: Whole = np.rint(sums[there] / counts[there, None])
    return means


def spread_out(items_ND: Whole, clusters: int, rng: np.random.Generator) -> Whole:
    """Return first centres, different items."""
    chosen = [int(rng.integers(len(items_ND)))]
    distance = nearest_of(items_ND, items_ND[chosen])[1]
    while len(chosen) < clusters and distance.any():
        chances = np.cumsum(distance)  # whole numbers: exact while their sum is below 2^53
        lot = rng.integers(int(chances[-1]))
        chosen.append(int(np.searchsorted(chances, lot, side="right")))
        distance = np.minimum(distance, nearest_of(items_ND, items_ND[chosen[-1:]])[1])
    return items_ND[chosen]
