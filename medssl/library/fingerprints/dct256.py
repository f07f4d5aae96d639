"""A 256-bit signature of a volume's coarse shape: copies lie a few bits apart, strangers about 128.

The volume is averaged onto a grid of 32^3 cells, and each bit says whether one low-frequency
coefficient of the grid's cosine transform lies above the median of the 256 coefficients: the
perceptual hash of images (Zauner 2010) in three dimensions. Twice: of the whole grid, and of the
bounding box of what is not air, so that a wider margin does not hide a copy.

Everything after the first quantisation is integer arithmetic, cosines included, so the bits are the
same on every machine, for any number of threads and any version of a numerical library.
"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from medssl.library.small_integers import are_small, histogram, look_up, table_of

SPEC = "dct256/1"
"""Goes wherever signatures are stored: signatures of different specs are never compared."""

BITS: Final = 256
CELLS: Final = 32

HU_RANGE = (-1024, 1023)
"""Air to bone; beyond it metal and padding would outweigh the anatomy."""
AIR_BELOW_HU = -300
PERCENT = (0.1, 99.9)
"""Arbitrary intensities are clipped here before they are mapped to 16 bits."""
AIR_BELOW_LEVEL = 65535 * 15 // 100
FULLEST_PLANE_PARTS = 20
"""A plane is in the body's box when it holds more than 1/20 of what the fullest plane holds."""

COSINE_SHIFT: Final = 12
"""Cosines are stored as multiples of 2^-12; with 20-bit averages all sums fit in 63 bits."""
MEAN_SHIFT: Final = 4
"""Averages keep this many bits after the binary point."""

Ints = NDArray[np.int64]


def dct256(array_IJK: NDArray[Any], intensity: str) -> tuple[bytes, bytes]:
    """Return the signatures of the full grid and of the body's bounding box, 32 bytes each.

    Spacing is not looked at: the grid is stretched to a cube, so a header with a wrong spacing
    changes nothing.

    Args:
        array_IJK: Voxels on the closest RAS grid.
        intensity: ``"hu"`` or ``"arbitrary"``.
    """
    levels_IJK = quantise(array_IJK, intensity)
    air_below = (AIR_BELOW_HU - HU_RANGE[0]) * 32 if intensity == "hu" else AIR_BELOW_LEVEL
    box = body_box(levels_IJK, air_below)
    return signature(levels_IJK), signature(levels_IJK[box])


def signature(levels_IJK: NDArray[np.uint16]) -> bytes:
    """Return 256 bits, exactly half of them set; equal coefficients are ranked by their place."""
    coefficients = cosine_transform(area_pool(levels_IJK))[tuple(FREQUENCIES.T)]
    above = np.zeros(BITS, dtype=bool)
    above[np.argsort(coefficients, kind="stable")[BITS // 2 :]] = True
    return np.packbits(above).tobytes()


def quantise(array_IJK: NDArray[Any], intensity: str) -> NDArray[np.uint16]:
    """Map intensities to 16 bits: a fixed range of HU, or the volume's own percentiles."""
    low, high = HU_RANGE if intensity == "hu" else _percentiles(array_IJK)
    levels_IJK = np.zeros(array_IJK.shape, dtype=np.uint16)
    if high <= low:
        return levels_IJK

    def level(values: NDArray[np.float64]) -> NDArray[np.uint16]:
        clipped = np.clip(np.nan_to_num(values, nan=low, posinf=low, neginf=low), low, high)
        if intensity == "hu":
            return ((np.rint(clipped) - low) * 32).astype(np.uint16)
        return ((clipped - low) * 65535 / (high - low)).astype(np.uint16)

    small = are_small(array_IJK.dtype)
    table = table_of(array_IJK.dtype, level) if small else np.empty(0)
    for i, slab_JK in enumerate(array_IJK):
        levels_IJK[i] = look_up(table, slab_JK) if small else level(slab_JK.astype(np.float64))
    return levels_IJK


def body_box(levels_IJK: NDArray[np.uint16], air_below: int) -> tuple[slice, slice, slice]:
    """Return the box around the planes that hold more than specks of something other than air.

    The whole grid when no plane does.
    """
    body_IJK = levels_IJK >= air_below
    counts_JK = body_IJK.sum(axis=0, dtype=np.int64)
    counts_I = np.array([np.count_nonzero(body_JK) for body_JK in body_IJK])
    box = []
    for counts in (counts_I, counts_JK.sum(axis=1), counts_JK.sum(axis=0)):
        planes = np.flatnonzero(counts * FULLEST_PLANE_PARTS > counts.max(initial=0))
        box.append(slice(int(planes[0]), int(planes[-1]) + 1) if planes.size else slice(None))
    return box[0], box[1], box[2]


def area_pool(levels_IJK: NDArray[np.uint16]) -> Ints:
    """Average onto (32, 32, 32) cells, voxels on a border shared by area; in 2^-4 of a level.

    Along an axis of N voxels, a cell is N/32 voxels wide. In units of 1/32 voxel its borders are
    whole numbers, and so is every overlap: sums are exact.
    """
    sums: NDArray[Any] = levels_IJK
    for _ in range(3):  # pool the leading axis and move it last: three times restores the order
        sums = np.moveaxis(_pool_leading_axis(sums), 0, -1)
    cells_IJK: Ints = (sums << MEAN_SHIFT) // math.prod(levels_IJK.shape)
    return cells_IJK


def cosine_transform(cells_IJK: Ints) -> Ints:
    """Return the low-frequency corner of the DCT-II of (32, 32, 32) integers, up to one scale."""
    out = np.einsum("ui,ijk->ujk", COSINES, cells_IJK)
    out = np.einsum("vj,ujk->uvk", COSINES, out) >> COSINE_SHIFT
    out_UVW: Ints = np.einsum("wk,uvk->uvw", COSINES, out)
    return out_UVW


def _pool_leading_axis(array: NDArray[Any]) -> Ints:
    length = array.shape[0]
    out = np.zeros((CELLS, *array.shape[1:]), dtype=np.int64)
    for cell in range(CELLS):
        start, stop = cell * length, (cell + 1) * length  # in 1/32 voxel
        first, last = start // CELLS, (stop - 1) // CELLS
        out[cell] = array[first : last + 1].sum(axis=0, dtype=np.int64) * CELLS
        out[cell] -= array[first].astype(np.int64) * (start - first * CELLS)
        out[cell] -= array[last].astype(np.int64) * ((last + 1) * CELLS - stop)
    return out


def _percentiles(array: NDArray[Any]) -> tuple[float, float]:
    """Return the clipping values: voxels of the volume themselves, never interpolated."""
    if are_small(array.dtype) and array.size:
        counted = histogram(array)
        low, high = counted.percentiles(PERCENT)
        return (low, high) if low < high else (counted.values[0], counted.values[-1])
    values = array.ravel()
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 0.0
    low, high = np.percentile(values, PERCENT, method="inverted_cdf")
    if high <= low:  # almost everything has one value: the rest is what there is to see
        low, high = values.min(), values.max()
    return float(low), float(high)


def _cosines(count: int) -> Ints:
    """Return cos(pi (2x + 1) u / 64) for frequency u < count and cell x, as scaled integers."""
    angle = math.pi / (2 * CELLS)
    rows = [[math.cos(angle * (2 * x + 1) * u) for x in range(CELLS)] for u in range(count)]
    table_UX: Ints = np.rint(np.array(rows) * 2**COSINE_SHIFT).astype(np.int64)
    return table_UX


def _frequencies() -> NDArray[np.intp]:
    """Return the 256 lowest frequencies (u, v, w) without the mean, by length, then by place."""
    grid = np.argwhere(np.ones((CELLS // 2,) * 3, dtype=bool))
    order = np.argsort((grid**2).sum(axis=1), kind="stable")
    return grid[order[1 : BITS + 1]]


FREQUENCIES = _frequencies()
COSINES = _cosines(int(FREQUENCIES.max()) + 1)
