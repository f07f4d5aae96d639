"""Thicker slices."""

import numpy as np

from medssl.evaluation.corruptions._coarse import through_grid
from medssl.evaluation.corruptions.base import Amounts, Corruption, Scale, with_values
from medssl.evaluation.exam import Exam


class ThickSlices(Corruption):
    """A volume as if it had been taken with thicker slices; thicker ones stay as they are."""

    class Config(Corruption.Config):
        severities_mm: Amounts = (3.0, 5.0, 8.0)
        """Distances between slices."""

    title = "slice thickness"
    config: Config

    def scale(self, modality: str) -> Scale:
        """Count in millimetres."""
        return Scale(self.config.severities_mm, "mm")

    def apply(self, exam: Exam, severity: float, rng: np.random.Generator) -> Exam:
        """Take thicker slices, and interpolate between them."""
        volume = exam.volume
        wanted_mm = list(volume.spacing_mm)
        if severity <= wanted_mm[volume.slice_axis]:
            return exam
        wanted_mm[volume.slice_axis] = severity
        return with_values(exam, through_grid(volume, wanted_mm))
