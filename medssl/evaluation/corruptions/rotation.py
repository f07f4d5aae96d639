"""A patient who lies askew."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medssl.evaluation.corruptions.base import Corruption, Scale, Severities, with_values
from medssl.evaluation.exam import Exam

_AXES = {"left_right": 0, "front_back": 1, "head_feet": 2}


class Rotation(Corruption):
    """The body turns about the middle of the scan, and its label map with it.

    What comes in from outside has the volume's least value and no label.
    """

    class Config(Corruption.Config):
        around: Literal["left_right", "front_back", "head_feet"] = "front_back"
        """The axis: `front_back` tilts a head towards a shoulder, `left_right` nods it,
        `head_feet` turns it."""
        severities_degrees: Severities = (5.0, 10.0, 20.0)
        """Angles."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.title = f"rotation, {config.around.replace('_', '-')} axis"

    def scale(self, modality: str) -> Scale:
        """Count in degrees."""
        return Scale(self.config.severities_degrees, "degrees")

    def apply(self, exam: Exam, severity: float, rng: np.random.Generator) -> Exam:
        """Turn image and label map; classes are those of the nearest voxel."""
        volume, label_IJK = exam.volume, exam.label_IJK
        if severity == 0 or min(volume.shape) == 1:
            return exam
        moved: dict[str, Any] = _moved(volume.affine_ras, volume.shape, self._matrix(severity))
        values_IJK = volume.array_IJK.astype(np.float64)
        turned_IJK = ndimage.affine_transform(
            values_IJK, **moved, order=1, cval=float(values_IJK.min())
        )
        if label_IJK is not None:  # nearest: classes have no in-between
            label_IJK = np.asarray(ndimage.affine_transform(label_IJK, **moved, order=0, cval=0))
        return with_values(exam._replace(label_IJK=label_IJK), turned_IJK)

    def _matrix(self, degrees: float) -> NDArray[np.float64]:
        """Return the rotation (3, 3) about an axis of RAS."""
        axis, angle = _AXES[self.config.around], np.radians(degrees)
        one, other = [n for n in range(3) if n != axis]
        matrix = np.eye(3)
        matrix[[one, other], [one, other]] = np.cos(angle)
        matrix[one, other], matrix[other, one] = -np.sin(angle), np.sin(angle)
        return matrix


def _moved(
    affine_ras: NDArray[np.float64], shape: tuple[int, int, int], turn: NDArray[np.float64]
) -> dict[str, Any]:
    """Return where every voxel of the turned volume lay before, in mm about the middle."""
    steps = affine_ras[:3, :3]
    matrix = np.linalg.inv(steps) @ turn.T @ steps
    middle = (np.array(shape) - 1) / 2
    return {"matrix": matrix, "offset": middle - matrix @ middle, "output_shape": shape}
