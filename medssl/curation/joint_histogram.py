"""How often each pair of values occurs at one place of two images."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bins = NDArray[np.uint8]
Counts = NDArray[np.int64]


def joint_histogram(a_P: Bins, b_P: Bins, bins: int) -> Counts:
    """Return (bins, bins) counts of the pairs of two images of equal size, of values < bins."""
    count = _compiled()
    if count is None:
        return joint_histogram_numpy(a_P, b_P, bins)
    counts: Counts = np.zeros((bins, bins), np.int64)
    count(a_P, b_P, counts)
    return counts


def joint_histogram_numpy(a_P: Bins, b_P: Bins, bins: int) -> Counts:
    """Do the same without a compiler."""
    codes = a_P.astype(np.intp) * bins + b_P
    return np.bincount(codes, minlength=bins * bins).reshape(bins, bins)


def _count(a_P: Any, b_P: Any, counts: Any) -> None:
    for n in range(len(a_P)):
        counts[a_P[n], b_P[n]] += 1


@cache
def _compiled() -> Any:
    try:
        from numba import njit
    except ImportError:  # numba has no wheel for every machine
        return None
    return njit(cache=True, nogil=True)(_count)
