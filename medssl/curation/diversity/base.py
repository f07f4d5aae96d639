"""What choosing for diversity is: of N embeddings, keep a number of them that shows the most.

Embeddings are rounded to whole numbers first, and all that follows are sums of whole numbers below
2^53. So nothing depends on the order in which a library adds, nor on threads or machines; and items
are put into the order of their names first, so nothing depends on the order of files either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medssl.config.choice import Configurable
from medssl.curation.set_metrics import unit_length

Whole = NDArray[np.float64]
"""Whole numbers in doubles, which multiply matrices quickly."""
Places = NDArray[np.int64]

SCALE: Final = 2**14
"""An embedding of length 1 becomes whole numbers of this length."""
_BLOCK: Final = 4096


@dataclass(frozen=True, eq=False)
class Chosen:
    """What became of every item, in the order they were given.

    Attributes:
        kept: (N,) whether it stays.
        representative: (N,) the kept item nearest to it: itself, where it is kept.
        cosine: (N,) of the two.
    """

    kept: NDArray[np.bool_]
    representative: Places
    cosine: NDArray[np.float64]


class Diversity(Configurable):
    """Chooses among items known by their embeddings alone."""

    class Config(Configurable.Config):
        share: Annotated[float, Field(gt=0, le=1)] = 0.5
        """Part of the items that is kept, rounded; at least one."""
        seed: int = 0
        """Another seed chooses others, where anything is drawn."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def choose(self, embeddings_ND: NDArray[np.float64], names: Sequence[str]) -> Chosen:
        """Keep a share of the items.

        Args:
            embeddings_ND: one row per item; only its direction counts.
            names: of the items, each once; they put items into an order that is always the same.

        Raises:
            ValueError: there are no items, or names repeat.
        """
        if not len(embeddings_ND) or len(set(names)) != len(embeddings_ND):
            raise ValueError("wanted items, each with a name of its own")
        order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
        items_ND = whole(embeddings_ND[order])
        places = np.sort(self.places(items_ND, max(1, round(self.config.share * len(order)))))
        nearest = places[nearest_of(items_ND, items_ND[places])[0]]
        nearest[places] = places  # an equal item may come first
        unit_ND = items_ND / SCALE
        kept, representative = np.zeros(len(order), bool), np.empty(len(order), np.int64)
        kept[order[places]], representative[order] = True, order[nearest]
        cosine = np.empty(len(order))
        cosine[order] = np.round((unit_ND * unit_ND[nearest]).sum(axis=1), 6)
        return Chosen(kept, representative, cosine)

    def places(self, items_ND: Whole, count: int) -> Places:
        """Return ``count`` different places, of items in the order of their names."""
        raise NotImplementedError


def whole(embeddings_ND: NDArray[np.float64]) -> Whole:
    """Return embeddings as whole numbers, of length ``SCALE`` before rounding."""
    rounded: Whole = np.rint(unit_length(embeddings_ND.astype(np.float64)) * SCALE)
    return rounded


def squared_distances(a_ND: Whole, b_MD: Whole) -> Whole:
    """Return (N, M) exact squared distances of whole numbers."""
    found: Whole = (a_ND**2).sum(axis=1)[:, None] - 2 * (a_ND @ b_MD.T) + (b_MD**2).sum(axis=1)
    return found


def nearest_of(items_ND: Whole, centres_KD: Whole) -> tuple[Places, Whole]:
    """Return (N,) the first of the nearest centres, and its squared distance; block by block."""
    nearest, distance = np.empty(len(items_ND), np.int64), np.empty(len(items_ND))
    for start in range(0, len(items_ND), _BLOCK):
        block = slice(start, start + _BLOCK)
        squared = squared_distances(items_ND[block], centres_KD)
        nearest[block] = squared.argmin(axis=1)
        distance[block] = squared.min(axis=1)
    return nearest, distance
