"""Resample what lies on a slanted or uneven grid onto a rectangular one. Pure functions.

Everything is linear interpolation, computed in float64, in one pass over the slices of the new
grid, so that beside the new array only a few slices are held. Integers stay integers, rounded to
the nearest (interpolated values never leave the range of their neighbours; half a unit is far
below the noise of a scan, and the file stays half as large). Voxels of the new grid that no slice
reaches are set to ``outside``; nothing is blended with it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import affine_transform

from medssl.io.geometry import Float64Array
from medssl.io.hounsfield import AIR_HU
from medssl.io.limits import MIB, Limits
from medssl.io.narrow import VoxelArray
from medssl.io.reasons import reject
from medssl.io.volume import Intensity

WHOLE_PIXEL = 1e-4
"""A shift so near to a whole number of pixels needs no interpolation."""

_WITHIN_VOXELS = 1e-6


@dataclass(frozen=True, eq=False)
class StackPlan:
    """How a stack of parallel slices comes onto a rectangular grid.

    Attributes:
        shape_IJ: columns and rows of the grid.
        offsets_IJ: (slices, 2), where pixel (0, 0) of each slice lies on the grid, in pixels.
        depths: one per slice of the grid: its place, counted in slices of the stack. 2.25 is a
            quarter of the way from slice 2 to slice 3.
    """

    shape_IJ: tuple[int, int]
    offsets_IJ: Float64Array
    depths: Float64Array

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices of the grid."""
        return *self.shape_IJ, len(self.depths)


@dataclass(frozen=True, eq=False)
class AffinePlan:
    """How a sheared array comes onto a rectangular grid.

    Attributes:
        shape: of the grid.
        affine_ras: (4, 4), grid index to millimetres; its axes stand at right angles.
        to_source: (4, 4), grid index to index of the sheared array.
        slice_axis: the axis that was straightened; planes across it stay planes.
    """

    shape: tuple[int, int, int]
    affine_ras: Float64Array
    to_source: Float64Array
    slice_axis: int


def outside_value(array: VoxelArray, intensity: Intensity) -> int | float:
    """Return what stands where nothing was scanned: air, or the lowest value where that is unknown.

    For Hounsfield units it is -1000 even where scanners wrote a lower number outside their field
    of view: that number is no measurement.
    """
    lowest: int | float = array.min().item()
    holds_air = array.dtype.kind != "u"
    return AIR_HU if intensity == "hu" and holds_air else lowest


def refuse_too_large(shape: tuple[int, ...], dtype: np.dtype, limits: Limits) -> None:
    """Reject a grid of more bytes than allowed, before it is made.

    Raises:
        RejectedFileError: ``too_large``.
    """
    announced = float(np.prod(shape, dtype=np.float64)) * dtype.itemsize
    if announced > limits.volume_bytes:
        raise reject(
            "too_large", announced_mib=announced / MIB, limit_mib=limits.volume_bytes / MIB
        )


def resample_stack(array_IJK: VoxelArray, plan: StackPlan, outside: float) -> VoxelArray:
    """Return the slices of ``array_IJK`` at the places of ``plan``.

    A slice of the grid at a whole depth is one slice of the stack, shifted in its plane; one in
    between is a blend of two.
    """

    @lru_cache(maxsize=2)
    def on_grid(index: int) -> Float64Array:
        return _shifted(array_IJK[:, :, index], plan.offsets_IJ[index], plan.shape_IJ)

    def plane(k: int) -> Float64Array:
        below = int(plan.depths[k])
        weight = float(plan.depths[k] - below)
        if weight == 0:
            return on_grid(below)
        return (1 - weight) * on_grid(below) + weight * on_grid(below + 1)

    new_KJI = _filled(plan.shape[::-1], array_IJK.dtype, lambda k: plane(k).T, outside)
    return new_KJI.transpose(2, 1, 0)


def plan_rectangle(affine_ras: Float64Array, shape: tuple[int, int, int]) -> AffinePlan:
    """Plan the rectangular grid that holds every voxel of a sheared array.

    The two axes that are nearest to a right angle stay as they are (but for what is missing to
    one); the third is replaced by their normal. So a stack of slices sheared by a tilted gantry
    stays a stack of the same slices, shifted in their planes.

    Args:
        affine_ras: (4, 4), index to millimetres.
        shape: of the array.
    """
    steps = affine_ras[:3, :3]
    unit = steps / np.linalg.norm(steps, axis=0)
    cosines = np.abs(unit.T @ unit)
    slice_axis = min((2, 1, 0), key=lambda axis: cosines[axis - 2, axis - 1])
    square = _squared(steps, last=slice_axis)
    to_grid = np.linalg.solve(square, steps)
    corners = np.indices((2, 2, 2)).reshape(3, -1) * (np.array(shape)[:, None] - 1)
    reached = to_grid @ corners
    low = np.floor(reached.min(axis=1) + _WITHIN_VOXELS)
    size = np.ceil(reached.max(axis=1) - _WITHIN_VOXELS) - low + 1
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = square, affine_ras[:3, 3] + square @ low
    i, j, k = (int(n) for n in size)
    to_source = np.asarray(np.linalg.solve(affine_ras, affine), dtype=np.float64)
    return AffinePlan((i, j, k), affine, to_source, slice_axis)


def resample_affine(array_IJK: VoxelArray, plan: AffinePlan, outside: float) -> VoxelArray:
    """Return ``array_IJK`` on the rectangular grid of ``plan``, by trilinear interpolation."""
    axis = plan.slice_axis
    across = [n for n in range(3) if n != axis]
    flat = [1 if n == axis else size for n, size in enumerate(plan.shape)]
    linear, origin = plan.to_source[:3, :3], plan.to_source[:3, 3]
    last = np.array(array_IJK.shape, dtype=np.float64) - 1
    axes = np.ogrid[: flat[0], : flat[1], : flat[2]]

    def plane(index: int) -> Float64Array:
        start = origin + linear[:, axis] * index
        values = np.empty(flat)
        affine_transform(array_IJK, linear, start, output=values, order=1, mode="nearest")
        for row, offset, end in zip(linear, start, last, strict=True):
            place = sum((row[n] * axes[n] for n in across), start=np.full((1, 1, 1), offset))
            beyond = (place < -_WITHIN_VOXELS) | (place > end + _WITHIN_VOXELS)
            values[np.broadcast_to(beyond, values.shape)] = np.nan
        return values.squeeze(axis)

    shape = (plan.shape[axis], *(plan.shape[n] for n in across))
    return np.moveaxis(_filled(shape, array_IJK.dtype, plane, outside), 0, axis)


def _squared(steps: Float64Array, *, last: int) -> Float64Array:
    """Return the columns of ``steps`` made orthogonal (Gram-Schmidt), ``last`` at the end."""
    square = np.zeros((3, 3))
    done: list[int] = []
    for axis in (*(n for n in range(3) if n != last), last):
        step = steps[:, axis].copy()
        for other in done:
            direction = square[:, other]
            step -= (step @ direction) / (direction @ direction) * direction
        square[:, axis] = step
        done.append(axis)
    return square


def _filled(
    shape: tuple[int, ...], dtype: np.dtype, plane: Callable[[int], Float64Array], outside: float
) -> VoxelArray:
    """Return an array made plane by plane, ``outside`` where a plane is not a number."""
    new = np.empty(shape, dtype)
    for index in range(shape[0]):
        values = plane(index)
        values = np.where(np.isnan(values), outside, values)
        new[index] = np.rint(values) if dtype.kind in "iu" else values
    return new


def _shifted(
    slice_IJ: VoxelArray, offset_IJ: Float64Array, shape_IJ: tuple[int, int]
) -> Float64Array:
    """Return a slice moved by ``offset_IJ`` pixels on a larger grid, NaN where it ends."""
    moved = slice_IJ.astype(np.float64)
    for axis, offset in enumerate(offset_IJ.tolist()):
        source = np.moveaxis(moved, axis, 0)
        target = np.full((shape_IJ[axis], source.shape[1]), np.nan)
        whole = round(offset)
        if abs(offset - whole) <= WHOLE_PIXEL:
            target[whole : whole + len(source)] = source
        else:
            whole = int(np.floor(offset))
            part = offset - whole
            between = part * source[:-1] + (1 - part) * source[1:]
            target[whole + 1 : whole + len(source)] = between
        moved = np.moveaxis(target, 0, axis)
    return moved
