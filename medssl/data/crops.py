"""Where crops are cut: base grids, random crops and how much they overlap. Pure geometry.

All positions are voxel indices in the region's own frame, all boxes half open: a crop that starts
at ``s`` covers ``s <= index < s + crop`` on every axis.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def base_grid_starts(grid: Sequence[int], crop_voxels: Sequence[int]) -> NDArray[np.int64]:
    """Tile a region with crops that touch and never overlap.

    Args:
        grid: Number of crops along I, J, K.
        crop_voxels: Size of one crop along I, J, K.

    Returns:
        ``(K, 3)`` first voxels; the last axis of the grid varies fastest, so on a grid
        ``(n, m, 1)`` the crop at ``(i, j)`` is row ``i * m + j``.
    """
    cells_K3 = np.indices(tuple(grid), dtype=np.int64).reshape(3, -1).T
    starts_K3: NDArray[np.int64] = cells_K3 * np.asarray(crop_voxels, dtype=np.int64)
    return starts_K3


def random_crop_starts(
    rng: np.random.Generator, count: int, grid: Sequence[int], crop_voxels: Sequence[int]
) -> NDArray[np.int64]:
    """Draw crops whose centre is uniform over the integers that keep them inside the region.

    An axis with a single cell leaves no freedom: its start is 0.

    Returns:
        ``(count, 3)`` first voxels.
    """
    size = np.asarray(crop_voxels, dtype=np.int64)
    last_start = (np.asarray(grid, dtype=np.int64) - 1) * size
    return rng.integers(0, last_start, size=(count, 3), endpoint=True)


def position_labels(
    starts_N3: NDArray[np.int64], base_starts_K3: NDArray[np.int64], crop_voxels: Sequence[int]
) -> NDArray[np.float64]:
    """Return the share of every random crop that lies in every base crop.

    Two boxes of equal size ``c`` whose starts differ by ``d`` share ``max(0, c - |d|)`` voxels on
    an axis; the overlap of the boxes is the product over the axes. The crops of a grid tile the
    region, so each row sums to 1, and it is one-hot where a random crop meets a base crop exactly.

    Returns:
        ``(N, K)`` overlap volume divided by crop volume (VoCo, arXiv:2402.17300, section 3.2).
    """
    size = np.asarray(crop_voxels, dtype=np.int64)
    distance_NK3 = np.abs(starts_N3[:, None, :] - base_starts_K3[None, :, :])
    shared_NK = np.maximum(size - distance_NK3, 0).prod(axis=-1)
    return np.asarray(shared_NK / size.prod(), dtype=np.float64)
