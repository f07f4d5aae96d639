"""Keep as much of every kind as of every other, at several levels of kind."""

from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medssl.curation.diversity.base import Diversity, Places, Whole, nearest_of
from medssl.curation.kmeans import kmeans


class Level(NamedTuple):
    """Clusters of one level: their centres, and which of them each item below belongs to."""

    centres_KD: Whole
    cluster_N: Places


class HierarchicalKmeans(Diversity):
    """Balanced sampling from a hierarchy of clusters (Vo et al. 2024, arXiv 2405.15613).

    Common kinds have many items and few clusters would go to rare ones, so k-means is repeated on
    the few items nearest to each centre: the centres then spread over what there is, not over how
    often it is. Centres are clustered in turn. Sampling starts at the top: clusters are filled like
    glasses from one jug, none above its size, and each passes its share on to those below.
    """

    class Config(Diversity.Config):
        clusters: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1)] = (
            256,
            16,
        )
        """Clusters of each level, the finest first; never more than there are items."""
        resamplings: Annotated[int, Field(ge=0)] = 3
        """How often k-means is repeated on the items nearest to the centres."""
        nearest: Annotated[int, Field(gt=0)] = 8
        """Items nearest to each centre that a repetition looks at."""
        iterations: Annotated[int, Field(gt=0)] = 30
        """Steps of k-means at most."""

    config: Config

    def places(self, items_ND: Whole, count: int) -> Places:
        """Cluster from the bottom, and share out from the top."""
        levels = self.hierarchy(items_ND)
        quota_K = water_fill(_sizes(levels), count)
        for depth in range(len(levels) - 1, 0, -1):
            members = levels[depth].cluster_N
            sizes_below = _sizes(levels[:depth])
            below = np.zeros(len(sizes_below), np.int64)
            for cluster, quota in enumerate(quota_K):
                (mine,) = np.nonzero(members == cluster)
                below[mine] = water_fill(sizes_below[mine], int(quota))
            quota_K = below
        return self._most_typical(items_ND, levels[0], quota_K)

    def hierarchy(self, items_ND: Whole) -> list[Level]:
        """Return the levels, the finest first; the items of a level are the centres below it."""
        levels: list[Level] = []
        for depth, clusters in enumerate(self.config.clusters):
            rng = np.random.default_rng([self.config.seed, depth])
            centres_KD = kmeans(items_ND, min(clusters, len(items_ND)), rng, self.config.iterations)
            for _ in range(self.config.resamplings):
                few = self._nearest_items(items_ND, centres_KD)
                centres_KD = kmeans(
                    items_ND[few], len(centres_KD), rng, self.config.iterations, centres_KD
                )
            found, cluster_N = np.unique(nearest_of(items_ND, centres_KD)[0], return_inverse=True)
            levels.append(Level(centres_KD[found], cluster_N.astype(np.int64)))
            items_ND = centres_KD[found]
        return levels

    def _nearest_items(self, items_ND: Whole, centres_KD: Whole) -> Places:
        """Return, sorted, the few items of each cluster that lie nearest to its centre."""
        cluster_N, distance_N = nearest_of(items_ND, centres_KD)
        order = np.lexsort((np.arange(len(items_ND)), distance_N, cluster_N))
        starts = np.searchsorted(cluster_N[order], cluster_N[order])
        within = np.arange(len(order)) - starts
        return np.sort(order[within < self.config.nearest])

    def _most_typical(self, items_ND: Whole, finest: Level, quota_K: Places) -> Places:
        """Return of each cluster as many items as its quota, those nearest to its centre first."""
        apart = items_ND - finest.centres_KD[finest.cluster_N]
        distance_N = (apart**2).sum(axis=1)
        order = np.lexsort((np.arange(len(items_ND)), distance_N, finest.cluster_N))
        starts = np.searchsorted(finest.cluster_N[order], finest.cluster_N[order])
        within = np.arange(len(order)) - starts
        chosen: Places = order[within < quota_K[finest.cluster_N[order]]]
        return chosen


def water_fill(sizes_K: NDArray[np.int64], count: int) -> Places:
    """Share ``count`` out as evenly as sizes allow: all get the same, or their size if it is less.

    What is left over when no more whole rounds fit goes, one each, to the first that have room.
    """
    count = min(count, int(sizes_K.sum()))
    low, high = 0, int(sizes_K.max(initial=0))
    while low < high:  # the most that everyone can be given at once
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if np.minimum(sizes_K, middle).sum() <= count else (low, middle - 1)
        )
    quota_K = np.minimum(sizes_K, low)
    (room,) = np.nonzero(sizes_K > quota_K)
    quota_K[room[: count - int(quota_K.sum())]] += 1
    return quota_K


def _sizes(levels: list[Level]) -> Places:
    """Return how many items each cluster of the last of ``levels`` holds, all levels down."""
    sizes = np.bincount(levels[0].cluster_N)
    for level in levels[1:]:
        held = np.zeros(len(level.centres_KD), np.int64)
        np.add.at(held, level.cluster_N, sizes)
        sizes = held
    return sizes.astype(np.int64)
