"""Pictures: a fixed range of grey values."""

from typing import Self

from pydantic import model_validator

from medssl.data.entry import StoreEntry
from medssl.data.intensity.base import Intensity


class GreyRange(Intensity):
    """A picture was windowed by whoever saved it; its grey values are taken as they are."""

    class Config(Intensity.Config):
        limits: tuple[float, float] = (0.0, 255.0)
        """Grey values that become 0 and 1."""

        @model_validator(mode="after")
        def _rising(self) -> Self:
            low, high = self.limits
            if not low < high:
                raise ValueError(f"limits must rise from low to high, found {low} to {high}")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def limits(self, entry: StoreEntry) -> tuple[float, float]:
        """Return the range, whatever the entry."""
        return self.config.limits
