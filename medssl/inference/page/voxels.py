"""Scan and mask as they lie on a page: small enough for a browser, packed as text."""

import base64
import gzip
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from medssl.inference.predicted import Predicted
from medssl.io.geometry import Float64Array

_INT16 = np.iinfo(np.int16)
_DATA_OFFSET = 352
"""Of a NIfTI-1 file: a header of 348 bytes, and four that say that no extension follows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PageVoxels:
    """What a page embeds."""

    scan_base64: str
    """NIfTI of int16 or uint8, gzip, base64."""
    mask_base64: str
    """The same of the mask, uint8; "" where there is none."""
    factors: tuple[int, int, int]
    """How many voxels of each axis were joined to one."""
    low: float
    """Intensity to show as black."""
    high: float
    """Intensity to show as white."""
    least: float
    most: float


def page_voxels(predicted: Predicted, limit_bytes: int) -> PageVoxels:
    """Return a scan and its mask for a page.

    Joined voxels show the mean of the scan, and the mask's number at their middle.

    Args:
        predicted: The scan and what was said of it.
        limit_bytes: The most bytes that the scan's int16 voxels may take before they are packed;
            more are joined, along the axis of the finest spacing first.
    """
    volume = predicted.volume
    factors = joined(volume.shape, volume.spacing_mm, limit_bytes)
    affine_ras = joined_affine(volume.affine_ras, factors)
    scan_IJK = mean_of_blocks(volume.array_IJK, factors)
    low, high = (float(value) for value in np.percentile(scan_IJK, (1, 99)))
    mask = ""
    if predicted.masks is not None:
        mask_IJK = middle_of_blocks(predicted.masks.painted_IJK, factors)
        mask = _packed(mask_IJK, affine_ras, slope=1.0, intercept=0.0)
    stored_IJK, slope, intercept = in_16_bits(scan_IJK)
    return PageVoxels(
        scan_base64=_packed(stored_IJK, affine_ras, slope, intercept),
        mask_base64=mask,
        factors=factors,
        low=low,
        high=high if high > low else low + 1,
        least=float(scan_IJK.min()),
        most=float(scan_IJK.max()),
    )


def joined(
    shape: tuple[int, ...], spacing_mm: tuple[float, ...], limit_bytes: int
) -> tuple[int, int, int]:
    """Return how many voxels of each axis to join, so that int16 voxels fit ``limit_bytes``."""
    factors = [1, 1, 1]
    while 2 * np.prod([-(-n // f) for n, f in zip(shape, factors, strict=True)]) > limit_bytes:
        splittable = [axis for axis in range(3) if factors[axis] < shape[axis]]
        if not splittable:
            break
        finest = min(splittable, key=lambda axis: spacing_mm[axis] * factors[axis])
        factors[finest] += 1
    return factors[0], factors[1], factors[2]


def joined_affine(affine_ras: Float64Array, factors: tuple[int, int, int]) -> Float64Array:
    """Return the affine of a grid whose voxels are blocks; the first block begins as before."""
    shift = np.diag([*factors, 1]).astype(np.float64)
    shift[:3, 3] = (np.asarray(factors) - 1) / 2
    return np.asarray(affine_ras @ shift)


def mean_of_blocks(array_IJK: NDArray[Any], factors: tuple[int, int, int]) -> NDArray[Any]:
    """Return the means of blocks; those at the far ends may be smaller."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            starts = np.arange(0, array_IJK.shape[axis], factor)
            sizes = np.diff([*starts, array_IJK.shape[axis]])
            sums = np.add.reduceat(array_IJK, starts, axis=axis, dtype=np.float32)
            array_IJK = sums / np.expand_dims(sizes, [n for n in range(3) if n != axis])
    return array_IJK


def middle_of_blocks(mask_IJK: NDArray[np.uint8], factors: tuple[int, int, int]) -> NDArray[Any]:
    """Return the number at the middle of every block."""
    places = [
        np.minimum(np.arange(0, n, f) + f // 2, n - 1)
        for n, f in zip(mask_IJK.shape, factors, strict=True)
    ]
    return mask_IJK[np.ix_(*places)]


def in_16_bits(scan_IJK: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """Return uint8 or int16 voxels, the slope and the intercept that make intensities of them.

    Integers that fit are kept. Others are rounded to one of 65536 steps between their extremes.
    """
    least, most = float(scan_IJK.min()), float(scan_IJK.max())
    if scan_IJK.dtype == np.uint8:
        return scan_IJK, 1.0, 0.0
    if scan_IJK.dtype.kind in "iu" and _INT16.min <= least and most <= _INT16.max:
        return scan_IJK.astype(np.int16), 1.0, 0.0
    slope = (most - least) / (_INT16.max - _INT16.min) or 1.0
    steps = np.rint((scan_IJK - np.float64(least)) / slope) + _INT16.min
    return steps.astype(np.int16), slope, least - slope * _INT16.min


def _packed(
    array_IJK: NDArray[Any], affine_ras: Float64Array, slope: float, intercept: float
) -> str:
    image = nibabel.Nifti1Image(array_IJK, affine_ras)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(slope, intercept)
    image.header.set_data_offset(_DATA_OFFSET)  # nibabel's own writer would scale once more
    header = image.header.binaryblock
    padding = bytes(_DATA_OFFSET - len(header))
    content = b"".join((header, padding, array_IJK.tobytes(order="F")))
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode("ascii")
