"""Keep as many slices of each volume as another strategy does, without a look at them."""

from typing import Annotated, Literal

import numpy as np
from pydantic import SerializeAsAny

from medssl.config.choice import choice
from medssl.curation.slices import VolumeSlices
from medssl.curation.strategies.base import Reduction, Strategy, thinned
from medssl.curation.strategies.hash import Hash
from medssl.curation.strategies.random_k import drawn


class MatchedK(Strategy):
    """Tells whether a strategy chooses well, or only thins: the control of equal size.

    As with ``random_k`` the gap is not filled up, so that the count stays exactly the same.
    """

    class Config(Strategy.Config):
        like: Annotated[SerializeAsAny[Strategy.Config], choice("medssl.curation.strategies")] = (
            Hash.Config()
        )
        """The strategy whose count is taken, volume by volume; its guards and gates apply."""
        placement: Literal["random", "even"] = "random"
        """Drawn by chance, or spread evenly over the slices that are not mostly air."""
        seed: int = 0
        """Another seed draws others."""

    config: Config

    def reduce(self, slices: VolumeSlices) -> Reduction:
        """Count, then draw."""
        other: Strategy = self.config.like.build()
        gated, count = other.gate(slices), int(other.reduce(slices).kept.sum())
        places = [i for i, reason in enumerate(gated) if reason is None]
        if self.config.placement == "random":
            kept = drawn(slices, places, count, self.config.seed)
        else:
            middles = (np.arange(count) * 2 + 1) * len(places) // (2 * count)
            kept = np.isin(np.arange(len(slices)), np.array(places)[middles])
        return thinned(slices, gated, kept, self.config.max_gap_mm)
