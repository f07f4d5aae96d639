"""The scan's grid, the network's grid, and slabs of the one made of the other.

MONAI resamples a volume at once, in float64 and with a list of all coordinates, which takes ten
times the memory of the volume. Here the same interpolation is asked of it slab by slab.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.networks.layers import AffineTransform
from numpy.typing import NDArray
from torch import Tensor

from medssl.data.preprocessing import build
from medssl.io.geometry import Float64Array, reorient
from medssl.io.volume import Volume

Spec = dict[str, Any]
Shape = tuple[int, int, int]

_SAME_GRID = 1e-3
"""MONAI's tolerance: grids closer than this are one, and nothing is resampled."""
_TRILINEAR = AffineTransform(
    normalized=False,
    mode="bilinear",
    padding_mode="border",
    align_corners=False,
    reverse_indexing=True,
)
"""What MONAI's Spacingd calls, with its defaults."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Voxels in space."""

    shape: Shape
    affine_ras: Float64Array


@dataclass(frozen=True, kw_only=True)
class Way:
    """From voxels of one grid to slabs of another, whose axes run the same ways."""

    source: Grid
    target: Grid

    @property
    def index_map(self) -> Float64Array:
        """(4, 4), from a voxel index of the target to one of the source."""
        return np.asarray(np.linalg.solve(self.source.affine_ras, self.target.affine_ras))

    @property
    def is_identity(self) -> bool:
        """Whether both are the same grid."""
        close = np.allclose(self.index_map, np.eye(4), atol=_SAME_GRID) or np.allclose(
            self.source.affine_ras, self.target.affine_ras, atol=_SAME_GRID
        )
        return close and self.source.shape == self.target.shape

    def needed(self, start: int, stop: int) -> tuple[int, int]:
        """Return which rows of the source the rows ``start`` to ``stop`` of the target are of."""
        if self.is_identity:
            return start, stop
        _, width, depth = self.target.shape
        corners = np.array(
            [
                (row, j, k, 1)
                for row in (start, stop - 1)
                for j in (0, width - 1)
                for k in (0, depth - 1)
            ]
        )
        places, last = corners @ self.index_map[0], self.source.shape[0] - 1
        low, high = np.clip([places.min(), places.max()], 0, last)
        # one row more on either side, as a place may be rounded across a row
        return max(0, int(low) - 1), min(last, int(high) + 2) + 1

    def slab(self, rows_CSJK: Tensor, first: int, start: int, stop: int) -> Tensor:
        """Return the rows ``start`` to ``stop`` of the target, ``(C, rows, J, K)`` float32.

        Args:
            rows_CSJK: Rows of the source, at least those that are ``needed``.
            first: Index of the first of these.
            start: First row of the target.
            stop: The one after the last.
        """
        if self.is_identity:
            return rows_CSJK[:, start - first : stop - first].float()
        begin, end = self.needed(start, stop)
        shift_out, shift_in = np.eye(4), np.eye(4)
        shift_out[0, 3], shift_in[0, 3] = start, -begin
        theta = torch.from_numpy(shift_in @ self.index_map @ shift_out).to(rows_CSJK.device)
        source = rows_CSJK[None, :, begin - first : end - first].double()
        size = (stop - start, *self.target.shape[1:])
        slab: Tensor = _TRILINEAR(source, theta, spatial_size=size)[0]
        return slab.float()


def turned_grid(volume: Volume) -> tuple[NDArray[Any], Grid]:
    """Return a view of the voxels with axes towards right, front and head, and their grid."""
    turned_IJK, affine_ras = reorient(volume.array_IJK, volume.affine_ras, "RAS")
    i, j, k = turned_IJK.shape
    return turned_IJK, Grid(shape=(i, j, k), affine_ras=affine_ras)


def turned_back(array_IJK: NDArray[Any], grid: Grid, codes: str) -> NDArray[Any]:
    """Return ``array_IJK``, which lies on ``grid``, with axes that lead to ``codes``."""
    back_IJK, _ = reorient(array_IJK, grid.affine_ras, codes)
    return np.ascontiguousarray(back_IJK)


def spaced_grid(grid: Grid, specs: Sequence[Spec]) -> Grid:
    """Return the grid on which the step ``Spacingd`` of ``specs``, if any, would put ``grid``."""
    for spec in specs:
        if spec["_target_"] == "Spacingd":
            nothing = torch.zeros(1).expand(1, *grid.shape)  # takes no memory
            affine_ras = torch.from_numpy(np.array(grid.affine_ras))
            asked = build(spec)({"image": MetaTensor(nothing, affine=affine_ras)}, lazy=True)
            image = asked["image"]
            i, j, k = (int(size) for size in image.peek_pending_shape())
            return Grid(shape=(i, j, k), affine_ras=image.peek_pending_affine().numpy())
    return grid
