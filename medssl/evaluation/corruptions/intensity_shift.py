"""Every value is too high or too low by the same amount."""

import numpy as np

from medssl.evaluation.corruptions.base import (
    Corruption,
    Scale,
    Severities,
    hu_or_shares,
    is_hu,
    spread,
    with_values,
)
from medssl.evaluation.exam import Exam


class IntensityShift(Corruption):
    """Adds a constant: in Hounsfield units to CT, in shares of the volume's spread to all else."""

    class Config(Corruption.Config):
        severities_hu: Severities = (-50.0, -25.0, 25.0, 50.0)
        """Added to CT, HU."""
        severities: Severities = (-0.2, -0.1, 0.1, 0.2)
        """Added to other scans, shares of what lies between their 0.5th and 99.5th percentile."""

    title = "intensity shift"
    config: Config

    def scale(self, modality: str) -> Scale:
        """Count in Hounsfield units where there are any."""
        return hu_or_shares(modality, self.config.severities_hu, self.config.severities)

    def apply(self, exam: Exam, severity: float, rng: np.random.Generator) -> Exam:
        """Add the constant."""
        volume = exam.volume
        amount = severity if is_hu(volume.modality) else severity * spread(volume)
        return with_values(exam, volume.array_IJK.astype(np.float64) + amount)
