"""A 256-bit signature of a volume's coarse shape: copies lie a few bits apart, strangers about 128.

The volume is averaged onto a grid of 32^3 cells, and each bit says whether one low-frequency
coefficient of the grid's cosine transform lies above the median of the 256 coefficients: the
perceptual hash of images (Zauner 2010) in three dimensions. Twice: of the whole grid, and of the
bounding box of what is not air, so that a wider margin does not hide a copy.

Everything after the first quantisation is integer arithmetic, cosines included, so the bits are the
same on every machine, for any number of threads and any version of a numerical library.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medssl.io.geometry import in_memory
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
_COUNTED_TOGETHER: Final = 255
MEAN_SHIFT: Final = 4
"""Averages keep this many bits after the binary point."""

Ints: TypeAlias = NDArray[np.int64]
Levels: TypeAlias = NDArray[np.uint16]
Level: TypeAlias = Callable[[NDArray[Any]], Levels]


def dct256(array_IJK: NDArray[Any], intensity: str) -> tuple[bytes, bytes]:
    """Return the signatures of the full grid and of the body's bounding box, 32 bytes each.

    Spacing is not looked at: the grid is stretched to a cube, so a header with a wrong spacing
    changes nothing.

    Args:
        array_IJK: Voxels on the closest RAS grid.
        intensity: ``"hu"`` or ``"arbitrary"``.
    """
    array, turned_back = in_memory(array_IJK)
    level = quantiser(array, intensity)
    air_below = (AIR_BELOW_HU - HU_RANGE[0]) * 32 if intensity == "hu" else AIR_BELOW_LEVEL
    box = body_box(array, level, air_below)
    whole, body = (turned_back(area_pool(part, level)) for part in (array, array[box]))
    return signature(whole), signature(body)


def signature(cells_IJK: Ints) -> bytes:
    """Return 256 bits, exactly half of them set; equal coefficients are ranked by their place."""
    coefficients = cosine_transform(cells_IJK)[tuple(FREQUENCIES.T)]
    above = np.zeros(BITS, dtype=bool)
    above[np.argsort(coefficients, kind="stable")[BITS // 2 :]] = True
    return np.packbits(above).tobytes()


def quantise(array: NDArray[Any], intensity: str) -> Levels:
    """Return the levels of all of ``array``."""
    levels, level = np.empty(array.shape, np.uint16), quantiser(array, intensity)
    for index, plane in enumerate(array):
        levels[index] = level(plane)
    return levels


def quantiser(array: NDArray[Any], intensity: str) -> Level:
    """Return what maps any part of ``array`` to 16 bits.

    It takes a fixed range of HU, or the volume's own percentiles.
    """
    if intensity == "hu" and array.dtype == np.int16:
        return _whole_hu()
    low, high = HU_RANGE if intensity == "hu" else _percentiles(array)
    if high <= low:
        return lambda part: np.zeros(part.shape, np.uint16)

    def level(values: NDArray[np.float64]) -> Levels:
        clipped = np.clip(np.nan_to_num(values, nan=low, posinf=low, neginf=low), low, high)
        if intensity == "hu":
            return ((np.rint(clipped) - low) * 32).astype(np.uint16)
        return ((clipped - low) * 65535 / (high - low)).astype(np.uint16)

    if are_small(array.dtype):
        return partial(look_up, table_of(array.dtype, level))
    return lambda part: level(part.astype(np.float64))


def body_box(array: NDArray[Any], level: Level, air_below: int) -> tuple[slice, slice, slice]:
    """Return the box around the planes that hold more than specks of something other than air.

    The whole grid when no plane does.
    """
    counts_first = np.zeros(array.shape[0], np.int64)
    counts_others = np.zeros(array.shape[1:], np.int64)
    for start in range(0, len(array), _COUNTED_TOGETHER):
        counted = np.zeros(array.shape[1:], np.uint8)  # as far as a byte goes: quicker than wider
        for index, part in enumerate(array[start : start + _COUNTED_TOGETHER], start):
            body = level(part) >= air_below
            counts_first[index] = np.count_nonzero(body)
            counted += body.view(np.uint8)
        counts_others += counted
    box = []
    for counts in (counts_first, counts_others.sum(axis=1), counts_others.sum(axis=0)):
        planes = np.flatnonzero(counts * FULLEST_PLANE_PARTS > counts.max(initial=0))
        box.append(slice(int(planes[0]), int(planes[-1]) + 1) if planes.size else slice(None))
    return box[0], box[1], box[2]


def area_pool(array: NDArray[Any], level: Level) -> Ints:
    """Average the levels onto (32, 32, 32) cells; in 2^-4 of a level.

    Voxels on a border are shared by area. Along an axis of N voxels, a cell is N/32 voxels wide.
    In units of 1/32 voxel its borders are whole numbers, and so is every overlap: sums are exact.
    The levels of a whole volume never lie in memory at once.
    """
    sums_first = _pool_leading_axis(array, level, np.uint32)  # an axis has at most 65535 voxels
    sums_second = _pool_leading_axis(sums_first.swapaxes(0, 1), np.asarray, np.int64)
    sums_third = _pool_leading_axis(np.moveaxis(sums_second, 2, 0), np.asarray, np.int64)
    sums: Ints = sums_third.transpose(2, 1, 0)
    return (sums << MEAN_SHIFT) // math.prod(array.shape)


def cosine_transform(cells_IJK: Ints) -> Ints:
    """Return the low-frequency corner of the DCT-II of (32, 32, 32) integers, up to one scale."""
    out = np.einsum("ui,ijk->ujk", COSINES, cells_IJK)
    out = np.einsum("vj,ujk->uvk", COSINES, out) >> COSINE_SHIFT
    out_UVW: Ints = np.einsum("wk,uvk->uvw", COSINES, out)
    return out_UVW


def _pool_leading_axis(
    array: NDArray[Any], level: Callable[[NDArray[Any]], NDArray[Any]], dtype: type
) -> NDArray[Any]:
    length = array.shape[0]
    sums = np.empty((CELLS, *array.shape[1:]), dtype)
    whole, parts = np.empty((2, *array.shape[1:]), dtype)
    for cell in range(CELLS):
        start, stop = cell * length, (cell + 1) * length  # in 1/32 voxel
        whole[:], parts[:] = 0, 0
        for index in range(start // CELLS, (stop - 1) // CELLS + 1):
            plane = level(array[index])
            weight = min(stop, (index + 1) * CELLS) - max(start, index * CELLS)
            if weight == CELLS:
                whole += plane
            else:
                parts += np.multiply(plane, weight, dtype=dtype)
        np.multiply(whole, CELLS, out=sums[cell])
        sums[cell] += parts
    return sums


def _whole_hu() -> Level:
    """Return the levels of whole HU; what they were written to is written to again."""
    low, high = HU_RANGE
    room = cache(lambda shape: np.empty(shape, np.uint16))

    def level(part: NDArray[Any]) -> Levels:
        levels: Levels = room(part.shape)
        np.clip(part, low, high, out=levels.view(np.int16))
        np.subtract(levels, np.int16(low).view(np.uint16), out=levels)
        return np.left_shift(levels, 5, out=levels)

    return level


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
