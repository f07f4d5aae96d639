"""Keep slices by chance: the control that any choice must beat."""

import hashlib
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from medssl.curation.slices import VolumeSlices
from medssl.curation.strategies.base import Bools, Reduction, Strategy, thinned


class RandomK(Strategy):
    """Keeps a share of the slices of each volume, the same for the same voxels and seed.

    The gap is not filled up, which would make the draw no control: a slice without a kept one
    within ``max_gap_mm`` is simply represented by none.
    """

    class Config(Strategy.Config):
        share: Annotated[float, Field(gt=0, le=1)] = 0.2
        """Part of the slices that are not mostly air; at least one is kept."""
        seed: int = 0
        """Another seed keeps others."""

    config: Config

    def reduce(self, slices: VolumeSlices) -> Reduction:
        """Keep the share that a hash of each slice's place puts first."""
        gated = self.gate(slices)
        places = [i for i, reason in enumerate(gated) if reason is None]
        count = max(1, round(self.config.share * len(places)))
        kept = drawn(slices, places, count, self.config.seed)
        return thinned(slices, gated, kept, self.config.max_gap_mm)


def drawn(slices: VolumeSlices, places: Sequence[int], count: int, seed: int) -> Bools:
    """Return (N,) which slices were drawn; a hash of the voxels decides, on every machine alike."""

    def lot(place: int) -> bytes:
        return hashlib.sha256(f"{seed} {slices.voxel_digest} {place}".encode()).digest()

    return np.isin(np.arange(len(slices)), sorted(places, key=lot)[:count])
