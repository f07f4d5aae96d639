"""What a corruption is: a scan in, a worse one out, by a severity."""

from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medssl.config.choice import Configurable
from medssl.data.resample import as_type
from medssl.evaluation.exam import Exam
from medssl.io.volume import Volume

Severities = Annotated[
    tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Field(min_length=1)
]
Amounts = Annotated[
    tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1)
]
PERCENTILES: Final = (0.5, 99.5)
SPREAD: Final = "of the spread"
"""Unit of severities that are shares of ``spread``."""


class Scale(NamedTuple):
    """How much is tried, and what it is counted in."""

    severities: tuple[float, ...]
    unit: str


class Corruption(Configurable):
    """Makes a scan worse, on its own grid; severity 0 leaves it as it is."""

    class Config(Configurable.Config):
        """The options of one corruption."""

    title: str
    """For people."""
    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    @abstractmethod
    def scale(self, modality: str) -> Scale:
        """Return the severities to try on scans of a modality."""

    @abstractmethod
    def apply(self, exam: Exam, severity: float, rng: np.random.Generator) -> Exam:
        """Return the worse scan, and its label map where that moves along.

        Args:
            exam: Left as it is; the result has its shape, type and affine.
            severity: How much; 0 is not at all.
            rng: Draws alike for every severity, so that a larger one is more of the same.
        """


def is_hu(modality: str) -> bool:
    """Return whether numbers are Hounsfield units, which mean the same in every scan."""
    return modality == "CT"


def hu_or_shares(
    modality: str, severities_hu: tuple[float, ...], severities: tuple[float, ...]
) -> Scale:
    """Count in Hounsfield units where there are any, else in shares of the spread."""
    return Scale(severities_hu, "HU") if is_hu(modality) else Scale(severities, SPREAD)


def spread(volume: Volume) -> float:
    """Return what severities without a unit are shares of: the 0.5th to the 99.5th percentile."""
    low, high = np.percentile(volume.array_IJK, PERCENTILES)
    return float(high - low)


def with_values(exam: Exam, values_IJK: NDArray[Any]) -> Exam:
    """Return an exam of other values, rounded to the type of its image; the label map stays."""
    array_IJK = as_type(values_IJK, exam.volume.array_IJK.dtype)
    return exam._replace(volume=replace(exam.volume, array_IJK=array_IJK))
