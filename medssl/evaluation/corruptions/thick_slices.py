"""Thicker slices."""

from medssl.evaluation.corruptions._coarse import Coarser
from medssl.evaluation.corruptions.base import Amounts
from medssl.io.volume import Volume


class ThickSlices(Coarser):
    """A volume as if it had been taken with thicker slices; thicker ones stay as they are."""

    class Config(Coarser.Config):
        severities_mm: Amounts = (3.0, 5.0, 8.0)
        """Distances between slices."""

    title = "slice thickness"

    def is_lost(self, axis: int, volume: Volume) -> bool:
        """Return whether an axis leads from slice to slice."""
        return axis == volume.slice_axis
