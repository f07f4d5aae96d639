"""Where patches of one size lie so that together they show a whole volume."""

import itertools
from collections.abc import Sequence

import numpy as np


def axis_starts(length: int, size: int, most: int) -> list[int]:
    """Return first voxels of patches that cover an axis, or are spread over it evenly.

    Args:
        length: Voxels of the volume along the axis; where they are fewer than ``size``, the one
            patch centres them, and begins before the first.
        size: Voxels of a patch.
        most: Patches along the axis, at most.
    """
    room = length - size
    if room <= 0:
        return [room // 2]
    count = min(-(-length // size), most)
    if count == 1:
        return [room // 2]
    return [int(start) for start in np.linspace(0, room, count).round()]


def covering_starts(
    shape: Sequence[int], size: Sequence[int], most: int
) -> list[tuple[int, int, int]]:
    """Return the first voxels of all patches; the last axis varies fastest.

    Args:
        shape: Voxels of the volume along I, J, K.
        size: Voxels of a patch along I, J, K.
        most: Patches along each axis, at most.
    """
    axes = [axis_starts(n, s, most) for n, s in zip(shape, size, strict=True)]
    return [(i, j, k) for i, j, k in itertools.product(*axes)]
