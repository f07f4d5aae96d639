"""Tell body from air, by one threshold: enough to cut air away and to skip empty regions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

AIR_HU = -1000.0
BODY_ABOVE_HU = -500.0
BODY_ABOVE_SHARE = 0.1
"""Without a unit, body starts at this share of the range between the outer percentiles."""
MIN_PLANE_SHARE = 0.001
"""A plane with less body than this holds noise."""


def background_value(lowest: float, intensity: str) -> float:
    """Return what to pad with: air for HU, but nothing darker than the volume itself knows.

    Scanners mark what lies outside the field of view with values far below air; a volume that was
    windowed before it came here never reaches air.
    """
    return max(lowest, AIR_HU) if intensity == "hu" else lowest


def body_threshold(p005: float, p995: float, intensity: str) -> float:
    """Return the value above which a voxel is taken for body."""
    return BODY_ABOVE_HU if intensity == "hu" else p005 + BODY_ABOVE_SHARE * (p995 - p005)


def body_box(
    array_IJK: NDArray[Any], above: float, margin_voxels: Sequence[int]
) -> tuple[slice, slice, slice]:
    """Return the box around the body, widened by a margin and kept inside the volume.

    A plane counts when at least ``MIN_PLANE_SHARE`` of its voxels are body. Where none does, the
    box is the whole volume.
    """
    body_IJK = array_IJK > above
    box = []
    for axis, margin in enumerate(margin_voxels):
        others = tuple(other for other in range(3) if other != axis)
        planes = np.flatnonzero(body_IJK.mean(axis=others) >= MIN_PLANE_SHARE)
        length = array_IJK.shape[axis]
        if len(planes):
            first, last = int(planes[0]) - margin, int(planes[-1]) + 1 + margin
            box.append(slice(max(first, 0), min(last, length)))
        else:
            box.append(slice(0, length))
    i, j, k = box
    return i, j, k
