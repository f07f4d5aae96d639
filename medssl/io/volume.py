"""The one object the readers return: voxels, where they lie, and what their numbers mean."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from medssl.io.geometry import Float64Array, spacing_mm
from medssl.io.narrow import VOLUME_DTYPES, VoxelArray

_AXES = 3

Intensity = Literal["hu", "suv", "bqml", "arbitrary", "unknown"]
"""What a voxel's number is: a Hounsfield unit, a standardised uptake value, becquerel per
millilitre, a number with a meaning only within its own scan, or nobody knows what."""

REGULARIZED = ("tilt", "uneven", "shear", "filled")
"""What may have been resampled: slices shifted by a tilted gantry, slices at uneven distances,
axes not at right angles, missing slices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceSource:
    """Which slice of which file a slice of a volume was read from; pseudonyms only."""

    file_key: str
    frame_index: int | None
    """Which frame of the file, None for a file of one slice."""
    instance_key: str
    filled: bool = False
    """The slice was missing and is interpolated; the source is the nearest slice there was."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """A three-dimensional scan, checked when it is made.

    Attributes:
        array_IJK: voxels, in the integer type they were stored with, or float32.
        affine_ras: (4, 4) float64, from voxel index to millimetres, RAS+: x grows to the patient's
            right, y to the front and z to the head.
        modality: "CT", "MR", "PT" or "unknown".
        intensity: "hu", "suv" and "bqml" only when the numbers are known to be that.
        regularized: what was resampled to make a rectangular grid, words of ``REGULARIZED``.
        slice_axis: the axis along which the slices were stacked.
        slices: the source of each index of that axis; empty where a file holds no slices.

    Raises:
        ValueError: when array, affine or labels break these promises. It is a bug of the
            caller: readers reject a bad file before they make a Volume of it.
    """

    array_IJK: VoxelArray
    affine_ras: Float64Array
    modality: str
    intensity: Intensity = "arbitrary"
    regularized: tuple[str, ...] = ()
    slice_axis: int = 2
    slices: tuple[SliceSource, ...] = ()

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
        if self.intensity not in get_args(Intensity):
            raise ValueError(f"no such intensity: {self.intensity!r}")
        if not set(self.regularized) <= set(REGULARIZED):
            raise ValueError(f"regularized holds words of {REGULARIZED}, got {self.regularized}")
        if self.slices and len(self.slices) != array.shape[self.slice_axis]:
            raise ValueError(
                f"{len(self.slices)} slice sources for {array.shape[self.slice_axis]} slices"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j and k."""
        i, j, k = self.array_IJK.shape
        return i, j, k

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Millimetres from one voxel to the next along i, j and k."""
        return spacing_mm(self.affine_ras)
