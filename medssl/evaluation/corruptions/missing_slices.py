"""Slices that never arrived."""

from typing import Annotated

import numpy as np
from pydantic import Field

from medssl.evaluation.corruptions.base import Corruption, Scale, with_values
from medssl.evaluation.exam import Exam


class MissingSlices(Corruption):
    """Slices are lost at random and interpolated between those that are left.

    This is what medssl's own reader of DICOM does with a gap. The outermost slices stay.
    """

    class Config(Corruption.Config):
        severities: Annotated[
            tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)
        ] = (0.1, 0.25, 0.5)
        """Shares of the slices that are missing."""

    title = "missing slices"
    config: Config

    def scale(self, modality: str) -> Scale:
        """Count in shares of the slices."""
        return Scale(self.config.severities, "of the slices")

    def apply(self, exam: Exam, severity: float, rng: np.random.Generator) -> Exam:
        """Interpolate slices drawn by lot; a larger share loses the same ones and more."""
        volume = exam.volume
        count = volume.shape[volume.slice_axis]
        order = 1 + rng.permutation(max(count - 2, 0))
        missing = np.sort(order[: round(severity * count)])
        if not len(missing):
            return exam
        there = np.setdiff1d(np.arange(count), missing)
        values_KXX = np.moveaxis(volume.array_IJK, volume.slice_axis, 0).astype(np.float64)
        after = np.searchsorted(there, missing)
        below, above = there[after - 1], there[after]
        share_K11 = ((missing - below) / (above - below))[:, None, None]
        values_KXX[missing] = (1 - share_K11) * values_KXX[below] + share_K11 * values_KXX[above]
        return with_values(exam, np.moveaxis(values_KXX, 0, volume.slice_axis))
