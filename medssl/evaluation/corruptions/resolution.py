"""A coarser pixel size within slices."""

from medssl.evaluation.corruptions._coarse import Coarser
from medssl.evaluation.corruptions.base import Amounts
from medssl.io.volume import Volume


class Resolution(Coarser):
    """Slices as if they had been taken with larger pixels; coarser ones stay as they are."""

    class Config(Coarser.Config):
        severities_mm: Amounts = (1.5, 2.0, 3.0)
        """Pixel sizes."""

    title = "pixel size"

    def is_lost(self, axis: int, volume: Volume) -> bool:
        """Return whether an axis lies within slices."""
        return axis != volume.slice_axis
