"""What a voxel says, whatever type its file holds: the numbers that digests are made of."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medssl.library.small_integers import are_small, look_up, table_of

HU_RANGE: Final = (-1024, 3071)
"""What a 12-bit scanner can say; padding below and metal above differ between exports."""

LEVELS: Final = 65536
"""A power of two: scaled integers of up to 16 bits then never fall halfway between two levels."""

Canonical: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]


def canonical_voxels(array_IJK: NDArray[Any], intensity: str) -> Canonical:
    """Return a function that gives the canonical values of any part of ``array_IJK``."""
    if intensity == "hu":
        return _whole_hu if array_IJK.dtype == np.int16 else _rounded_hu
    low, high = finite_range(array_IJK)

    def scaled(values: NDArray[np.float64]) -> NDArray[Any]:
        finite = np.clip(np.nan_to_num(values, nan=low, posinf=low, neginf=low), low, high)
        steps = (finite - low) * LEVELS / max(high - low, np.finfo(float).tiny)
        return np.rint(steps).astype("<i4")

    if are_small(array_IJK.dtype):
        return partial(look_up, table_of(array_IJK.dtype, scaled))
    return lambda part: scaled(part.astype(np.float64))


def finite_range(array: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and largest finite value; (0, 0) when there is none."""
    if array.dtype.kind == "f":
        array = array[np.isfinite(array)]
    return (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)


def _whole_hu(part: NDArray[Any]) -> NDArray[Any]:
    clipped: NDArray[Any] = np.clip(part, *HU_RANGE).astype("<i2", copy=False)
    return clipped


def _rounded_hu(part: NDArray[Any]) -> NDArray[Any]:
    low, high = HU_RANGE
    values = np.nan_to_num(part.astype(np.float64), nan=low, posinf=low, neginf=low)
    return np.rint(np.clip(values, low, high)).astype("<i2")
