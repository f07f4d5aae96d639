"""MR, and anything else without a unit: percentiles of the volume itself."""

from medssl.data.entry import StoreEntry
from medssl.data.intensity.base import Intensity


class MRPercentiles(Intensity):
    """Scanner and sequence decide what a value means, so every volume is its own measure."""

    class Config(Intensity.Config):
        """The 0.5th and the 99.5th percentile become 0 and 1; there is nothing to set."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def limits(self, entry: StoreEntry) -> tuple[float, float]:
        """Return the percentiles that the store keeps for the whole volume."""
        return entry.p005, entry.p995
