"""Every value is too large or too small by the same factor."""

import numpy as np

from medssl.evaluation.corruptions.base import Corruption, Scale, Severities, with_values
from medssl.evaluation.exam import Exam


class IntensityScale(Corruption):
    """Multiplies by one and the severity; water, 0 HU, stays what it is in CT."""

    class Config(Corruption.Config):
        severities: Severities = (-0.2, -0.1, 0.1, 0.2)
        """Change of the factor: 0.1 makes every value a tenth larger."""

    title = "intensity scale"
    config: Config

    def scale(self, modality: str) -> Scale:
        """Count in shares of every value."""
        return Scale(self.config.severities, "of the value")

    def apply(self, exam: Exam, severity: float, rng: np.random.Generator) -> Exam:
        """Multiply."""
        return with_values(exam, exam.volume.array_IJK.astype(np.float64) * (1 + severity))
