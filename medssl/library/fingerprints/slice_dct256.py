"""What each slice looks like: a 256-bit signature, a 64-bit key, and how much of it is body.

The perceptual hash of images (Zauner 2010), of every slice by itself: the slice is averaged onto
32 x 32 cells, and each bit says whether one low-frequency coefficient of their cosine transform
lies above the median. The signature compares slices by distance: on real scans a slice resized,
smoothed, sharpened or of another gamma is at most 28 bits away, and 1 in 1000 pairs of other
slices is as near. The key is made of the 64 lowest frequencies alone and compared for equality,
as a database joins: a part of a volume shares nearly all of its keys with the whole, a resized or
another kernel's reconstruction about eight in ten, strangers less than one in thirty.

A coefficient near zero, as a symmetric slice has many, would draw its bit from noise. So they are
rounded to steps of an eighth of their mean, and equal ones are ranked by their place: those bits
stay where they are. Aligning the slice by its body's box was tried and is left out: it absorbs a
shift by pixels, and tears copies of another noise or gamma apart.

All of it is integer arithmetic, as in ``dct256``.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from medssl.io.geometry import memory_order
from medssl.library.fingerprints.area_pool import CELLS, Ints, overlaps, pool_first_axis
from medssl.library.fingerprints.dct256 import MEAN_SHIFT, Look, cosines, look

SPEC: Final = "slice-dct256/1"
"""Stored with the signatures: those of different specs are never compared."""

BITS: Final = 256
KEY_BITS: Final = 64
STEP_SHIFT: Final = 11
"""A step of the coefficients is 2^-11 of the sum of 256: an eighth of their mean."""
_BETWEEN_SHIFT: Final = 6
"""Bits dropped after the first of two products, so that the second stays below 2^53."""


@dataclass(frozen=True, eq=False)
class SliceSignatures:
    """One row per slice, in the order of the slice axis.

    Attributes:
        keys_SB: (S, 8) bytes, to be compared for equality; of a slice of air they mean nothing.
        signatures_SB: (S, 32) bytes, to be compared by the number of bits that differ.
        foreground_S: (S,) share of the slice that is not air.
    """

    keys_SB: NDArray[np.uint8]
    signatures_SB: NDArray[np.uint8]
    foreground_S: NDArray[np.float32]


def slice_dct256(
    array_IJK: NDArray[Any], intensity: str, slice_axis: int, seen: Look | None = None
) -> SliceSignatures:
    """Return the key, the signature and the share of body of every slice.

    Args:
        array_IJK: Voxels on the closest RAS grid.
        intensity: ``"hu"``: a fixed range of HU is looked at; else that of the volume's own values.
        slice_axis: the axis along which the slices lie.
        seen: what ``dct256.look`` found of the volume, where somebody looks anyway.
    """
    seen = seen or look(array_IJK, intensity)
    lying = memory_order(array_IJK).index(slice_axis)
    sums = seen.sums_PRC if lying == 0 else _sums_along(seen, lying)
    # The slices may lie in memory along any axis, from either end, and so may their pixels.
    cells = seen.turned_back(np.moveaxis(sums, 0, lying))
    body = seen.turned_back(np.moveaxis(seen.bodies[lying][:, None, None], 0, lying))
    pixels = seen.array.size // seen.array.shape[lying]
    means_SRC = (np.moveaxis(cells, slice_axis, 0) * seen.quantiser.unit << MEAN_SHIFT) // pixels
    return SliceSignatures(*signatures_of(means_SRC), (np.ravel(body) / pixels).astype(np.float32))


def signatures_of(cells_SRC: Ints) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return keys (S, 8) and signatures (S, 32) of slices of (32, 32) cells, below 2^20 each."""
    coefficients_SF = cosine_transform(cells_SRC)
    step_S = np.maximum(np.abs(coefficients_SF).sum(axis=1, keepdims=True) >> STEP_SHIFT, 1)
    rounded_SF = (2 * coefficients_SF + step_S) // (2 * step_S)
    return _above_median(rounded_SF[:, :KEY_BITS]), _above_median(rounded_SF)


def cosine_transform(cells_SRC: Ints) -> Ints:
    """Return the (S, 256) coefficients of ``FREQUENCIES`` of the DCT-II, up to one scale."""
    # Whole numbers below 2^53: products of float64 are exact, whatever order they add in.
    half = _COSINES @ cells_SRC.astype(np.float64)
    half = np.floor(half * 2.0**-_BETWEEN_SHIFT) @ _COSINES.T
    found: Ints = half[:, *FREQUENCIES.T].astype(np.int64)
    return found


def _above_median(values_SF: Ints) -> NDArray[np.uint8]:
    """Return, packed, which values are of the upper half; equal ones are ranked by their place."""
    slices, count = values_SF.shape
    above = np.zeros((slices, count), dtype=bool)
    upper = np.argsort(values_SF, axis=1, kind="stable")[:, count // 2 :]
    np.put_along_axis(above, upper, True, axis=1)
    return np.packbits(above, axis=1)


def _sums_along(seen: Look, lying: int) -> Ints:
    """Return ``Look.sums_PRC`` along another axis than the first in memory, which is summed up."""
    sums = np.zeros((CELLS, *seen.array.shape[1:]), np.uint32)
    for cell, summed in enumerate(sums):
        for index, weight in overlaps(cell, len(seen.array)):
            steps = seen.quantiser.steps(seen.array[index])
            np.add(summed, np.multiply(steps, weight, dtype=np.uint32), out=summed)
    pooled = pool_first_axis(np.moveaxis(sums, 3 - lying, 0).astype(np.int64))
    return pooled.transpose(2, 1, 0)


def _frequencies() -> NDArray[np.intp]:
    """Return the 256 lowest frequencies (u, v) without the mean, by length, then by place."""
    grid = np.argwhere(np.ones((CELLS, CELLS), dtype=bool))
    order = np.argsort((grid**2).sum(axis=1), kind="stable")
    return grid[order[1 : BITS + 1]]


FREQUENCIES: Final = _frequencies()
_COSINES: Final = cosines(int(FREQUENCIES.max()) + 1).astype(np.float64)
