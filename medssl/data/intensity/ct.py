"""CT: a fixed window of Hounsfield units."""

from typing import Self

from pydantic import model_validator

from medssl.data.entry import StoreEntry
from medssl.data.intensity.base import Intensity


class CTWindow(Intensity):
    """Hounsfield units mean the same in every scan, so every scan gets the same window."""

    class Config(Intensity.Config):
        window_hu: tuple[float, float] = (-1000.0, 1000.0)
        """Hounsfield units that become 0 and 1; the default keeps lung, soft tissue and bone."""

        @model_validator(mode="after")
        def _window_opens(self) -> Self:
            low, high = self.window_hu
            if not low < high:
                raise ValueError(f"window_hu must rise from low to high, found {low} to {high}")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def limits(self, entry: StoreEntry) -> tuple[float, float]:
        """Return the window, whatever the entry."""
        return self.config.window_hu
