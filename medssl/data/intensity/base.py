"""What an intensity scale is: stored values to [0, 1]."""

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.config.choice import Configurable
from medssl.data.entry import StoreEntry


class Intensity(Configurable):
    """Map a crop to [0, 1], by fixed limits or by the statistics of the crop's own volume."""

    class Config(Configurable.Config):
        """The options of one intensity scale."""

    @abstractmethod
    def limits(self, entry: StoreEntry) -> tuple[float, float]:
        """Return the stored values that become 0 and 1."""

    def normalize(self, crop_IJK: NDArray[Any], entry: StoreEntry) -> NDArray[np.float32]:
        """Return the crop as float32, linear between the limits and clipped to [0, 1].

        The volume's statistics decide, never the crop's: a tissue keeps its grey value wherever
        it is cut. A volume whose limits meet has no contrast to keep and becomes 0.
        """
        low, high = self.limits(entry)
        if not high > low:
            return np.zeros(crop_IJK.shape, dtype=np.float32)
        scaled_IJK: NDArray[np.float32] = np.subtract(crop_IJK, np.float32(low), dtype=np.float32)
        scaled_IJK *= np.float32(1 / (high - low))
        return np.clip(scaled_IJK, 0, 1, out=scaled_IJK)
