"""Choose the intensity scale that fits a volume."""

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import SerializeAsAny, model_validator

from medssl.config.base import Config
from medssl.config.choice import choice
from medssl.data.entry import StoreEntry
from medssl.data.intensity.base import Intensity
from medssl.data.intensity.ct import CTWindow
from medssl.data.intensity.mr import MRPercentiles

Scale = Annotated[SerializeAsAny[Intensity.Config], choice("medssl.data.intensity")]


class IntensityConfig(Config):
    """How stored values become the network's [0, 1]."""

    ct: Scale = CTWindow.Config()
    """For volumes in Hounsfield units."""
    mr: Scale = MRPercentiles.Config()
    """For volumes without a unit: MR, and CT that was rescaled by whoever exported it."""

    @model_validator(mode="before")
    @classmethod
    def _name_defaults(cls, tree: Any) -> Any:
        """Let ``ct: {window_hu: ...}`` mean the scale of that name."""
        if not isinstance(tree, dict):
            return tree
        return {k: {"name": k, **v} if isinstance(v, dict) else v for k, v in tree.items()}

    def normalize(self, crop_IJK: NDArray[Any], entry: StoreEntry) -> NDArray[np.float32]:
        """Return the crop as float32 in [0, 1], by the scale that fits the entry's unit."""
        return self._scale(entry).normalize(crop_IJK, entry)

    def limits(self, entry: StoreEntry) -> tuple[float, float]:
        """Return the stored values that become 0 and 1."""
        return self._scale(entry).limits(entry)

    def _scale(self, entry: StoreEntry) -> Intensity:
        config = self.ct if entry.intensity == "hu" else self.mr
        scale: Intensity = config.build()
        return scale
