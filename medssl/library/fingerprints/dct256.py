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
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from medssl.io.geometry import in_memory
from medssl.library.fingerprints.area_pool import (
    CELLS,
    Ints,
    Levels,
    pool_first_axis,
    pool_planes,
    together,
)
from medssl.library.small_integers import are_small, histogram, look_up, table_of

SPEC = "dct256/1"
"""Goes wherever signatures are stored: signatures of different specs are never compared."""

BITS: Final = 256

HU_RANGE = (-1024, 1023)
"""Air to bone; beyond it metal and padding would outweigh the anatomy."""
LEVELS_PER_HU: Final = 32
AIR_BELOW_HU_LEVEL = (-300 - HU_RANGE[0]) * LEVELS_PER_HU
PERCENT = (0.1, 99.9)
"""Arbitrary intensities are clipped here before they are mapped to 16 bits."""
AIR_BELOW_LEVEL = 65535 * 15 // 100
FULLEST_PLANE_PARTS = 20
"""A plane is in the body's box when it holds more than 1/20 of what the fullest plane holds."""

COSINE_SHIFT: Final = 12
"""Cosines are stored as multiples of 2^-12; with 20-bit averages all sums fit in 63 bits."""
MEAN_SHIFT: Final = 4
"""Averages keep this many bits after the binary point."""

_MOST_8_BITS: Final = 255
_MOST_16_BITS: Final = 65535


@dataclass(frozen=True)
class Quantiser:
    """Maps any part of a volume to 16 bits.

    Attributes:
        steps: gives the level of each voxel, in ``unit``; what it returned before is overwritten.
        unit: how many levels a step is.
        most: the largest number of steps.
    """

    steps: Callable[[NDArray[Any]], Levels]
    unit: int = 1
    most: int = _MOST_16_BITS


@dataclass(frozen=True)
class Look:
    """What one pass over a volume's planes finds, as they lie in memory.

    Attributes:
        array: the voxels, the slowest axis first.
        turned_back: gives an array of such axes those of the volume again.
        quantiser: maps the voxels to levels.
        bodies: for each axis, how many voxels of each of its planes are not air.
        sums_PRC: (planes, 32, 32), ``pool_planes`` of the steps of every plane of the first axis.
    """

    array: NDArray[Any]
    turned_back: Callable[[NDArray[Any]], NDArray[Any]]
    quantiser: Quantiser
    bodies: tuple[Ints, Ints, Ints]
    sums_PRC: Ints

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The box around the planes that hold more than specks of something other than air.

        The whole grid when no plane does.
        """
        first, second, third = map(_where_fullest, self.bodies)
        return first, second, third


def look(array_IJK: NDArray[Any], intensity: str) -> Look:
    """Pool every plane of a volume, and count what is not air; arguments as for ``dct256``."""
    array, turned_back = in_memory(array_IJK)
    quantiser = quantiser_of(array, intensity)
    air_below = AIR_BELOW_HU_LEVEL if intensity == "hu" else AIR_BELOW_LEVEL
    first, others = np.zeros(len(array), np.int64), np.zeros(array.shape[1:], np.int64)
    sums_PRC = np.empty((len(array), CELLS, CELLS), np.int64)
    counted, room = np.zeros(array.shape[1:], np.uint8), _MOST_8_BITS
    for planes in together(array):
        steps = quantiser.steps(array[planes])
        sums_PRC[planes] = pool_planes(steps, quantiser.most)
        for index, body in enumerate(steps >= air_below // quantiser.unit, planes.start):
            first[index] = np.count_nonzero(body)
            counted += body.view(np.uint8)  # as far as a byte goes: quicker than wider
            room -= 1
            if not room:
                others += counted
                counted[:], room = 0, _MOST_8_BITS
    others += counted
    bodies = first, others.sum(axis=1), others.sum(axis=0)
    return Look(array, turned_back, quantiser, bodies, sums_PRC)


def dct256(
    array_IJK: NDArray[Any], intensity: str, seen: Look | None = None
) -> tuple[bytes, bytes]:
    """Return the signatures of the full grid and of the body's bounding box, 32 bytes each.

    Spacing is not looked at: the grid is stretched to a cube, so a header with a wrong spacing
    changes nothing.

    Args:
        array_IJK: Voxels on the closest RAS grid.
        intensity: ``"hu"`` or ``"arbitrary"``.
        seen: what ``look`` found of them, where somebody looks anyway.
    """
    seen = seen or look(array_IJK, intensity)
    whole = mean_cells(seen.sums_PRC, seen.array.size, seen.quantiser)
    part = seen.array[seen.box]
    body = whole if part.shape == seen.array.shape else area_pool(part, seen.quantiser)
    return signature(seen.turned_back(whole)), signature(seen.turned_back(body))


def signature(cells_IJK: Ints) -> bytes:
    """Return 256 bits, exactly half of them set; equal coefficients are ranked by their place."""
    coefficients = cosine_transform(cells_IJK)[tuple(FREQUENCIES.T)]
    above = np.zeros(BITS, dtype=bool)
    above[np.argsort(coefficients, kind="stable")[BITS // 2 :]] = True
    return np.packbits(above).tobytes()


def quantise(array: NDArray[Any], intensity: str) -> Levels:
    """Return the levels of all of ``array``."""
    levels, quantiser = np.empty(array.shape, np.uint16), quantiser_of(array, intensity)
    for index, plane in enumerate(array):
        np.multiply(quantiser.steps(plane), np.uint16(quantiser.unit), out=levels[index])
    return levels


def quantiser_of(array: NDArray[Any], intensity: str) -> Quantiser:
    """Return what maps any part of ``array``: by a fixed range of HU, or its own percentiles."""
    if intensity == "hu" and array.dtype == np.int16:
        return Quantiser(_whole_hu(), LEVELS_PER_HU, HU_RANGE[1] - HU_RANGE[0])
    low, high = HU_RANGE if intensity == "hu" else _percentiles(array)
    if high <= low:
        return Quantiser(lambda part: np.zeros(part.shape, np.uint16))

    def level(values: NDArray[np.float64]) -> Levels:
        clipped = np.clip(np.nan_to_num(values, nan=low, posinf=low, neginf=low), low, high)
        if intensity == "hu":
            return ((np.rint(clipped) - low) * LEVELS_PER_HU).astype(np.uint16)
        return ((clipped - low) * 65535 / (high - low)).astype(np.uint16)

    if are_small(array.dtype):
        return Quantiser(partial(look_up, table_of(array.dtype, level)))
    return Quantiser(lambda part: level(part.astype(np.float64)))


def area_pool(array: NDArray[Any], quantiser: Quantiser) -> Ints:
    """Average the levels onto (32, 32, 32) cells; in 2^-4 of a level.

    The levels of a whole volume never lie in memory at once.
    """
    sums_PRC = np.empty((len(array), CELLS, CELLS), np.int64)
    for planes in together(array):
        sums_PRC[planes] = pool_planes(quantiser.steps(array[planes]), quantiser.most)
    return mean_cells(sums_PRC, array.size, quantiser)


def mean_cells(sums_PRC: Ints, voxels: int, quantiser: Quantiser) -> Ints:
    """Return ``area_pool`` of the array of which ``sums_PRC`` are the planes, already pooled."""
    sums: Ints = pool_first_axis(sums_PRC) * quantiser.unit
    return (sums << MEAN_SHIFT) // voxels


def cosine_transform(cells_IJK: Ints) -> Ints:
    """Return the low-frequency corner of the DCT-II of (32, 32, 32) integers, up to one scale."""
    out = np.einsum("ui,ijk->ujk", COSINES, cells_IJK)
    out = np.einsum("vj,ujk->uvk", COSINES, out) >> COSINE_SHIFT
    out_UVW: Ints = np.einsum("wk,uvk->uvw", COSINES, out)
    return out_UVW


def _where_fullest(counts: Ints) -> slice:
    planes = np.flatnonzero(counts * FULLEST_PLANE_PARTS > counts.max(initial=0))
    return slice(int(planes[0]), int(planes[-1]) + 1) if planes.size else slice(None)


def _whole_hu() -> Callable[[NDArray[Any]], Levels]:
    low, high = HU_RANGE
    room = cache(lambda shape: np.empty(shape, np.uint16))

    def steps(part: NDArray[Any]) -> Levels:
        found: Levels = room(part.shape)
        np.clip(part, low, high, out=found.view(np.int16))
        return np.subtract(found, np.int16(low).view(np.uint16), out=found)

    return steps


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


def cosines(count: int) -> Ints:
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
COSINES = cosines(int(FREQUENCIES.max()) + 1)
