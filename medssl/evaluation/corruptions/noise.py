"""Noise, as of a lower dose or a shorter measurement."""

import numpy as np

from medssl.evaluation.corruptions.base import (
    Amounts,
    Corruption,
    Scale,
    hu_or_shares,
    is_hu,
    spread,
    with_values,
)
from medssl.evaluation.exam import Exam


class Noise(Corruption):
    """Gaussian in CT, Rician in magnitudes; white, which noise of real scanners is not quite."""

    class Config(Corruption.Config):
        severities_hu: Amounts = (10.0, 25.0, 50.0)
        """Standard deviations in CT, HU."""
        severities: Amounts = (0.02, 0.05, 0.1)
        """Standard deviations in other scans, shares of what lies between their 0.5th and 99.5th
        percentile."""

    title = "noise"
    config: Config

    def scale(self, modality: str) -> Scale:
        """Count in Hounsfield units where there are any."""
        return hu_or_shares(modality, self.config.severities_hu, self.config.severities)

    def apply(self, exam: Exam, severity: float, rng: np.random.Generator) -> Exam:
        """Return the noisy scan.

        Values that are magnitudes, none below 0, become ``sqrt((x + n)^2 + m^2)`` with n and m of
        the standard deviation, as both channels of a receiver are noisy (Gudbjartsson & Patz 1995,
        Magn Reson Med 34:910).
        """
        volume = exam.volume
        values_IJK = volume.array_IJK.astype(np.float64)
        if is_hu(volume.modality):
            return with_values(exam, values_IJK + severity * rng.standard_normal(volume.shape))
        sigma = severity * spread(volume)
        real_IJK = values_IJK + sigma * rng.standard_normal(volume.shape)
        if values_IJK.min() < 0:
            return with_values(exam, real_IJK)
        return with_values(exam, np.hypot(real_IJK, sigma * rng.standard_normal(volume.shape)))
