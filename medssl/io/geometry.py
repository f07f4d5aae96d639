"""Affine arithmetic: frames, spacing, orientation. Pure functions of (4, 4) matrices."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

if TYPE_CHECKING:
    from medssl.io.narrow import VoxelArray
    from medssl.io.volume import Volume

Float64Array: TypeAlias = NDArray[np.float64]

LPS_TO_RAS: Float64Array = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM's frame (left, posterior, superior) to NIfTI's (right, anterior, superior)."""


def lps_to_ras(affine_lps: Float64Array) -> Float64Array:
    """Return the affine that leads to RAS+ millimetres, given the one that leads to LPS+."""
    affine: Float64Array = LPS_TO_RAS @ affine_lps
    return affine


def spacing_mm(affine: Float64Array) -> tuple[float, float, float]:
    """Return the lengths of the three voxel steps, in millimetres."""
    i, j, k = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return i, j, k


def shear_degrees(affine: Float64Array) -> float:
    """Return how far the voxel axes are from standing at right angles: 0 for a box."""
    steps = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = (steps.T @ steps)[np.triu_indices(3, k=1)]
    return float(np.degrees(np.arcsin(np.clip(np.abs(cosines), 0, 1))).max())


def axis_codes(affine_ras: Float64Array) -> str:
    """Return where i, j and k lead to, as three of the letters R L A P S I."""
    return "".join(orientations.aff2axcodes(affine_ras))


def reorient(
    array_IJK: "VoxelArray", affine_ras: Float64Array, target: str
) -> tuple["VoxelArray", Float64Array]:
    """Flip and permute the axes so that they lead to ``target``, e.g. "RAS"; lossless.

    Args:
        array_IJK: voxels; more axes may follow the three.
        affine_ras: (4, 4), voxel index to RAS+ millimetres.
        target: three letters, one of each pair R/L, A/P, S/I.

    Returns:
        A view of the array, and the affine under which every voxel stays where it was.
    """
    change = _turn(affine_ras, target)
    turned = orientations.apply_orientation(array_IJK, change)
    affine: Float64Array = affine_ras @ orientations.inv_ornt_aff(change, array_IJK.shape[:3])
    return turned, affine + 0.0  # no -0.0, which would look like a difference


def _turn(affine_ras: Float64Array, target: str) -> Float64Array:
    """Return, for each axis, which one it becomes, and -1 where it is flipped on the way."""
    wanted = orientations.axcodes2ornt(tuple(target))
    change: Float64Array = orientations.ornt_transform(
        orientations.io_orientation(affine_ras), wanted
    )
    return change


def memory_order(array_IJK: "VoxelArray") -> tuple[int, int, int]:
    """Return the axes from the one that is slowest in memory to the fastest."""
    slowest, middle, fastest = np.argsort(-np.abs(array_IJK.strides), kind="stable").tolist()
    return slowest, middle, fastest


def in_memory(
    array_IJK: "VoxelArray",
) -> tuple["VoxelArray", Callable[["VoxelArray"], "VoxelArray"]]:
    """Return ``array_IJK`` as it lies in memory, and what turns such an array back.

    Arithmetic is quickest along ascending addresses: the slowest axis comes first, and nothing is
    flipped. Both are views.
    """
    axes = memory_order(array_IJK)
    flips = tuple(slice(None, None, -1 if step < 0 else None) for step in array_IJK.strides)
    back = np.argsort(axes)
    return array_IJK[flips].transpose(axes), lambda lying: lying.transpose(back)[flips]


def to_closest_ras(volume: "Volume") -> "Volume":
    """Return ``volume`` with its axes as near to right, front, head as flips can bring them.

    Nothing is resampled: an oblique scan stays oblique, and its affine says so. The sources of
    the slices turn with them. The voxels are a view: they are not moved in memory.
    """
    array, affine = reorient(volume.array_IJK, volume.affine_ras, "RAS")
    axis, direction = _turn(volume.affine_ras, "RAS")[volume.slice_axis]
    return replace(
        volume,
        array_IJK=array,
        affine_ras=affine,
        slice_axis=int(axis),
        slices=volume.slices[:: int(direction)],
    )
