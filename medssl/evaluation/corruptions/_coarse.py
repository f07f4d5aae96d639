"""A coarser grid and back, for corruptions that lose resolution."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medssl.data.resample import resample, resampled_grid
from medssl.evaluation.corruptions.base import Amounts, Corruption, Scale, with_values
from medssl.evaluation.exam import Exam
from medssl.io.volume import Volume


class Coarser(Corruption):
    """A scan as if it had been taken on a coarser grid; what is coarser already stays."""

    class Config(Corruption.Config):
        severities_mm: Amounts
        """Steps of the coarser grid."""

    config: Config

    def scale(self, modality: str) -> Scale:
        """Count in millimetres."""
        return Scale(self.config.severities_mm, "mm")

    def apply(self, exam: Exam, severity: float, rng: np.random.Generator) -> Exam:
        """Take the coarser grid, and interpolate between its points."""
        wanted_mm = tuple(
            max(step_mm, severity) if self.is_lost(axis, exam.volume) else step_mm
            for axis, step_mm in enumerate(exam.volume.spacing_mm)
        )
        if wanted_mm == exam.volume.spacing_mm:
            return exam
        return with_values(exam, through_grid(exam.volume, wanted_mm))

    @abstractmethod
    def is_lost(self, axis: int, volume: Volume) -> bool:
        """Return whether resolution is lost along an axis."""


def through_grid(volume: Volume, spacing_mm: Sequence[float]) -> NDArray[Any]:
    """Return what is left of a volume after a grid of another spacing, on its own grid again.

    Down without aliasing (``medssl.data.resample``), up linearly.
    """
    exact_IJK = volume.array_IJK.astype(np.float64)
    coarse_IJK, _ = resample(exact_IJK, volume.affine_ras, spacing_mm)
    _, zoom, offset = resampled_grid(volume.shape, volume.affine_ras, spacing_mm)
    back = ndimage.affine_transform(
        coarse_IJK, 1 / zoom, -offset / zoom, output_shape=volume.shape, order=1, mode="nearest"
    )
    return np.asarray(back)
