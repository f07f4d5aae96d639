"""Volumes of 8 or 16 bits hold few distinct values: count them, and map them by table.

Both give exactly what the same arithmetic on every voxel gives, in a fraction of the time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.io.geometry import in_memory
from medssl.io.narrow import VoxelArray

_MOST_BYTES = 2


@dataclass(frozen=True, eq=False)
class Histogram:
    """The distinct values of an array, ascending, and how often each occurs."""

    values: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Arithmetic mean."""
        return float(np.average(self.values, weights=self.counts))

    @property
    def std(self) -> float:
        """Standard deviation of the whole population."""
        return float(np.sqrt(np.average((self.values - self.mean) ** 2, weights=self.counts)))

    def percentiles(self, percents: Sequence[float]) -> list[float]:
        """Return percentiles that are values of the array themselves, never interpolated."""
        found = np.percentile(self.values, percents, weights=self.counts, method="inverted_cdf")
        return [float(value) for value in found]


def are_small(dtype: np.dtype[Any]) -> bool:
    """Return whether ``dtype`` is an integer of up to 16 bits."""
    return dtype.kind in "iu" and dtype.itemsize <= _MOST_BYTES


def histogram(array: VoxelArray) -> Histogram:
    """Return the histogram of an array of small integers, of at least two axes."""
    codes = 256**array.dtype.itemsize
    counts = np.zeros(codes, np.int64)
    for slab in in_memory(array)[0].view(
        _unsigned(array.dtype)
    ):  # bincount makes 64-bit numbers of a slab
        counts += np.bincount(slab.ravel(), minlength=codes)
    values = _every_value(array.dtype)
    ascending = np.argsort(values, kind="stable")
    there = ascending[counts[ascending] > 0]
    return Histogram(values[there].astype(np.float64), counts[there])


def table_of(
    dtype: np.dtype[Any], function: Callable[[NDArray[np.float64]], NDArray[Any]]
) -> NDArray[Any]:
    """Return ``function`` of every value of a small integer type, for ``look_up``."""
    return function(_every_value(dtype).astype(np.float64))


def look_up(table: NDArray[Any], array: VoxelArray) -> NDArray[Any]:
    """Return, for every element of ``array``, what ``table_of`` its type holds for it."""
    return np.take(table, array.view(_unsigned(array.dtype)))


def _unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{dtype.itemsize}")


def _every_value(dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the values of ``dtype``, in the order of their bit patterns."""
    return np.arange(256**dtype.itemsize, dtype=_unsigned(dtype)).view(dtype)
