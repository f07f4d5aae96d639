"""Put a volume on another spacing: smooth what the new grid cannot hold, then interpolate."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))


def resampled_grid(
    shape: Sequence[int], affine_ras: NDArray[np.float64], spacing_mm: Sequence[float]
) -> tuple[tuple[int, int, int], NDArray[np.float64], NDArray[np.float64]]:
    """Lay a grid of another spacing over the same box, with the same centre and directions.

    Returns:
        The new shape, the zoom (3,) and the offset (3,) such that new index ``n`` lies at old
        index ``n * zoom + offset``.
    """
    old_spacing_mm = np.linalg.norm(affine_ras[:3, :3], axis=0)
    zoom = np.asarray(spacing_mm, dtype=np.float64) / old_spacing_mm
    old_shape = np.asarray(shape, dtype=np.float64)
    new_shape = np.maximum(np.rint(old_shape / zoom), 1)
    offset = (old_shape - 1) / 2 - zoom * (new_shape - 1) / 2
    i, j, k = (int(length) for length in new_shape)
    return (i, j, k), zoom, offset


def smoothing_sigma(zoom: float) -> float:
    """Return the Gaussian, in old voxels, that turns old point spread functions into new ones.

    With Gaussian point spread functions as wide at half height as their voxels, variances add:
    sigma^2 = (zoom^2 - 1) / (8 ln 2) (Cardoso et al. 2015, MICCAI, scale factor point spread
    function matching). A finer grid needs none.
    """
    return math.sqrt(max(zoom**2 - 1, 0)) / FWHM_PER_SIGMA


def resample(
    array_IJK: NDArray[Any], affine_ras: NDArray[np.float64], spacing_mm: Sequence[float]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Resample a volume along its own axes, linearly and without aliasing.

    Args:
        array_IJK: Voxels of any integer or float type.
        affine_ras: (4, 4), voxel index to mm.
        spacing_mm: New distance between voxel centres along I, J, K.

    Returns:
        The voxels on the new grid in their own type (integers rounded), and the grid's affine.
    """
    shape, zoom, offset = resampled_grid(array_IJK.shape, affine_ras, spacing_mm)
    exact = array_IJK.dtype.kind in "iu" and array_IJK.dtype.itemsize >= 4  # noqa: PLR2004
    values_IJK = array_IJK.astype(np.float64 if exact else np.float32)
    for axis in np.argsort(-zoom):  # coarser axes first: what follows has fewer voxels to smooth
        values_IJK = _resample_axis(
            values_IJK, int(axis), shape[axis], float(zoom[axis]), float(offset[axis])
        )
    new_affine_ras: NDArray[np.float64] = affine_ras @ grid_change(zoom, offset)
    return as_type(values_IJK, array_IJK.dtype), new_affine_ras


def grid_change(zoom: ArrayLike, offset: ArrayLike) -> NDArray[np.float64]:
    """Return the (4, 4) matrix from new voxel index to old voxel index."""
    change = np.eye(4)
    change[:3, :3] = np.diag(np.asarray(zoom))
    change[:3, 3] = offset
    return change


def _resample_axis(
    values_IJK: NDArray[Any], axis: int, length: int, zoom: float, offset: float
) -> NDArray[Any]:
    if zoom == 1 and length == values_IJK.shape[axis]:
        return values_IJK
    if zoom > 1:
        sigma = smoothing_sigma(zoom)
        values_IJK = ndimage.gaussian_filter1d(values_IJK, sigma, axis=axis, mode="nearest")
    new_shape = list(values_IJK.shape)
    zooms, offsets = np.ones(3), np.zeros(3)
    new_shape[axis], zooms[axis], offsets[axis] = length, zoom, offset
    return np.asarray(
        ndimage.affine_transform(
            values_IJK, zooms, offsets, output_shape=tuple(new_shape), order=1, mode="nearest"
        )
    )


def as_type(values_IJK: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the values in this type, rounded and kept inside its limits for integers."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values_IJK = np.clip(np.rint(values_IJK), limits.min, limits.max)
    typed_IJK: NDArray[Any] = values_IJK.astype(dtype)
    return typed_IJK
