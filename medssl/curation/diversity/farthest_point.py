"""Keep whatever is farthest from everything kept so far."""

import numpy as np

from medssl.curation.diversity.base import Diversity, Places, Whole, squared_distances


class FarthestPoint(Diversity):
    """Greedy k-centre (Gonzalez 1985, Theoretical Computer Science 38:293).

    The farthest any item is from a kept one is at most twice what the best choice of as many could
    do. It favours outliers, which in an archive are often mistakes.
    """

    class Config(Diversity.Config):
        pass

    def places(self, items_ND: Whole, count: int) -> Places:
        """Begin with the item nearest to the mean, then take the farthest; the first of equals."""
        centre = np.rint(items_ND.mean(axis=0, keepdims=True))
        chosen = [int(squared_distances(items_ND, centre)[:, 0].argmin())]
        distance = squared_distances(items_ND, items_ND[chosen])[:, 0]
        while len(chosen) < count:
            distance[chosen] = -1.0  # an equal item is farther than one that is kept
            chosen.append(int(distance.argmax()))
            nearer = squared_distances(items_ND, items_ND[chosen[-1:]])[:, 0]
            distance = np.minimum(distance, nearer)
        return np.array(chosen, np.int64)
