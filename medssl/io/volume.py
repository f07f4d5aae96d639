"""The one object the readers return: voxels, where they lie, and what their numbers mean."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medssl.io.geometry import Float64Array, spacing_mm
from medssl.io.narrow import VOLUME_DTYPES, VoxelArray

_AXES = 3

Intensity = Literal["hu", "arbitrary"]
"""Whether a voxel's number is a Hounsfield unit or has a meaning only within its own scan."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """A three-dimensional scan, checked when it is made.

    Attributes:
        array_IJK: voxels, in the integer type they were stored with, or float32.
        affine_ras: (4, 4) float64, from voxel index to millimetres, RAS+: x grows to the patient's
            right, y to the front and z to the head.
        modality: "CT", "MR", "PT" or "unknown".
        intensity: "hu" only when the numbers are known to be Hounsfield units.

    Raises:
        ValueError: when array, affine or labels break these promises. It is a bug of the
            caller: readers reject a bad file before they make a Volume of it.
    """

    array_IJK: VoxelArray
    affine_ras: Float64Array
    modality: str
    intensity: Intensity = "arbitrary"

    def __post_init__(self) -> None:
        array, affine = self.array_IJK, self.affine_ras
        if array.ndim != _AXES or 0 in array.shape:
            raise ValueError(f"a Volume needs three axes with voxels, got shape {array.shape}")
        if array.dtype not in VOLUME_DTYPES:
            raise ValueError(f"a Volume cannot hold {array.dtype}; narrow it first")
        if affine.shape != (4, 4) or affine.dtype != np.float64 or not np.isfinite(affine).all():
            raise ValueError("affine_ras must be a finite (4, 4) float64 matrix")
        if (affine[3] != (0, 0, 0, 1)).any() or np.linalg.det(affine[:3, :3]) == 0:
            raise ValueError("affine_ras must be invertible, with 0 0 0 1 as its last row")
        if self.intensity not in ("hu", "arbitrary"):
            raise ValueError(f"intensity is 'hu' or 'arbitrary', not {self.intensity!r}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j and k."""
        i, j, k = self.array_IJK.shape
        return i, j, k

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Millimetres from one voxel to the next along i, j and k."""
        return spacing_mm(self.affine_ras)
