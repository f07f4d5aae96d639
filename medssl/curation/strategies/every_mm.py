"""Keep slices at equal distances in mm, whatever they show."""

from typing import Annotated

import numpy as np
from pydantic import Field

from medssl.curation.slices import VolumeSlices
from medssl.curation.strategies.base import Reduction, Strategy, thinned


class EveryMm(Strategy):
    """Thins a volume evenly: the usual way, which knows the spacing but not the content."""

    class Config(Strategy.Config):
        step_mm: Annotated[float, Field(gt=0)] = 10.0
        """Distance between kept slices; the nearest slice to each multiple is kept."""

    config: Config

    def reduce(self, slices: VolumeSlices) -> Reduction:
        """Keep the nearest slice to every multiple, and what would be too far from all of them."""
        gated = self.gate(slices)
        places = np.array([i for i, reason in enumerate(gated) if reason is None], np.int64)
        at_mm = slices.positions_mm[places] - slices.positions_mm[places[0]]
        targets_mm = np.arange(0.0, at_mm[-1] + self.config.step_mm / 2, self.config.step_mm)
        nearest = {int(places[np.argmin(np.abs(at_mm - target))]) for target in targets_mm}
        kept = np.isin(np.arange(len(slices)), sorted(nearest))
        for place in places:
            apart_mm = np.abs(slices.positions_mm[kept] - slices.positions_mm[place])
            kept[place] |= bool(apart_mm.min() > self.config.max_gap_mm)
        return thinned(slices, gated, kept, self.config.max_gap_mm)
