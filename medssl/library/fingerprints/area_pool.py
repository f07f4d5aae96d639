"""Averages over areas, in whole numbers: many pixels to 32 x 32 cells, shared by area at borders.

Along an axis of N voxels a cell is N/32 voxels wide. In units of 1/32 voxel its borders are whole
numbers, and so is every overlap: sums are exact, and the same in any order and on any machine.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

CELLS: Final = 32

_MOST_16_BITS: Final = 65535
_TOGETHER_BYTES: Final = 2**21
"""Planes that are worked on together stay in the cache of a core."""
_MOST_TOGETHER: Final = 255

Ints: TypeAlias = NDArray[np.int64]
Levels: TypeAlias = NDArray[np.uint16]


def together(array: NDArray[Any]) -> Iterator[slice]:
    """Yield which planes of ``array``, along its first axis, to work on at once."""
    plane_bytes = 2 * int(np.prod(array.shape[1:]))
    step = max(1, min(_MOST_TOGETHER, _TOGETHER_BYTES // max(1, plane_bytes)))
    for start in range(0, len(array), step):
        yield slice(start, min(start + step, len(array)))


def pool_planes(levels_PRC: Levels, most: int) -> Ints:
    """Return the sums of every plane over its (32, 32) cells, in 1/1024 of a pixel's area.

    Args:
        levels_PRC: planes, rows, columns; at most 65535 of each.
        most: the largest level there can be.
    """
    planes, rows, columns = levels_PRC.shape
    unit = CELLS
    if rows < CELLS:  # then a row is cut into 32, so that no cell lies within one
        levels_PRC, unit = np.repeat(levels_PRC, CELLS, axis=1), 1
        rows *= CELLS
    # Additions of 16 bits are the quickest; they are used where no sum can outgrow them.
    narrow = np.uint16 if most * (rows // CELLS + 1) <= _MOST_16_BITS else np.uint32
    whole, part = np.divmod(np.arange(CELLS + 1) * rows, CELLS)
    sums = np.empty((planes, CELLS, columns), np.uint32)
    for cell in range(CELLS):
        inner = levels_PRC[:, whole[cell] + bool(part[cell]) : whole[cell + 1]]
        sums[:, cell] = np.add.reduce(inner, axis=1, dtype=narrow)
    sums *= np.uint32(unit)
    (cut,) = np.nonzero(part)  # borders within a row, which both its cells share
    if cut.size:
        shared = levels_PRC[:, whole[cut]].astype(np.uint32)
        below = part[cut, None].astype(np.uint32)
        sums[:, cut - 1] += shared * below
        sums[:, cut] += shared * (np.uint32(CELLS) - below)
    # Whole numbers below 2^53: a product of float64 is exact, whatever order it adds in.
    pooled: Ints = (sums.astype(np.float64) @ _shares(columns)).astype(np.int64)
    return pooled


def pool_first_axis(sums_PRC: Ints) -> Ints:
    """Return the sums over 32 cells along the first axis, in 1/32 of the unit before."""
    planes, *others = sums_PRC.shape
    flat = sums_PRC.reshape(planes, -1)
    pooled = np.zeros((CELLS, flat.shape[1]), np.int64)
    for cell in range(CELLS):
        for index, weight in overlaps(cell, planes):
            pooled[cell] += flat[index] * weight
    return pooled.reshape(CELLS, *others)


def overlaps(cell: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield the voxels of an axis that a cell covers, and how much of each, in 1/32 voxel."""
    start, stop = cell * length, (cell + 1) * length
    for index in range(start // CELLS, (stop - 1) // CELLS + 1):
        yield index, min(stop, (index + 1) * CELLS) - max(start, index * CELLS)


@cache
def _shares(length: int) -> NDArray[np.float64]:
    """Return how much of each voxel of an axis lies in each cell, in 1/32 voxel."""
    shares = np.zeros((length, CELLS))
    for cell in range(CELLS):
        for index, weight in overlaps(cell, length):
            shares[index, cell] = weight
    return shares
