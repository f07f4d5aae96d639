"""A coarser pixel size within slices."""

import numpy as np

from medssl.evaluation.corruptions._coarse import through_grid
from medssl.evaluation.corruptions.base import Amounts, Corruption, Scale, with_values
from medssl.evaluation.exam import Exam


class Resolution(Corruption):
    """Slices as if they had been taken with larger pixels; coarser ones stay as they are."""

    class Config(Corruption.Config):
        severities_mm: Amounts = (1.5, 2.0, 3.0)
        """Pixel sizes."""

    title = "pixel size"
    config: Config

    def scale(self, modality: str) -> Scale:
        """Count in millimetres."""
        return Scale(self.config.severities_mm, "mm")

    def apply(self, exam: Exam, severity: float, rng: np.random.Generator) -> Exam:
        """Take larger pixels, and interpolate between them."""
        volume = exam.volume
        wanted_mm = [max(step, severity) for step in volume.spacing_mm]
        wanted_mm[volume.slice_axis] = volume.spacing_mm[volume.slice_axis]
        if tuple(wanted_mm) == volume.spacing_mm:
            return exam
        return with_values(exam, through_grid(volume, wanted_mm))
