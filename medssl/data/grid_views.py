"""VoCo's views: a grid of base crops, and random crops that must be placed on it."""

from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.nn import functional as F

from medssl.data.augment import (
    AugmentConfig,
    CropChange,
    apply_change,
    draw_change,
    never,
    undo_change,
)
from medssl.data.crops import base_grid_starts, position_labels, random_crop_starts
from medssl.data.views import Batch, FloatArray, Region, Sample, Size, ViewSpec, three

Positive = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, kw_only=True)
class GridDraw:
    """Where the random crops of one sample lie, and how each crop is changed."""

    region_change: CropChange
    starts_N3: NDArray[np.int64]
    random_changes: tuple[CropChange, ...]
    base_changes: tuple[CropChange, ...]


NO_CHANGE = never(AugmentConfig)


class GridViews(ViewSpec[GridDraw]):
    """Base crops that tile the region, and random crops inside it (VoCo, arXiv:2402.17300).

    ``Batch.views_BCIJK`` is ``[random (B*N, 1, c, c, c), base (B*K, 1, c, c, c)]``, and
    ``Batch.geometry["position_labels_BNK"]`` (float32) says how much of each random crop lies in
    each base crop of its own volume. ``region_from_view_0_BN34`` and ``region_from_view_1_BN34``
    are the affines from voxel indices of the random and of the base crops to those of the region,
    as ``augment_region`` leaves it (float32).
    """

    grid: tuple[Positive, Positive, Positive] = (3, 3, 1)
    """Base crops along right, anterior, superior."""
    crop_voxels: Size = 24
    """Size of one crop; one number is a cube."""
    resize_to: Size | None = None
    """Size that crops are interpolated to for the network; null leaves them as they are cut."""
    random_crops: Positive = 4
    """Random crops per sample."""
    augment: AugmentConfig = AugmentConfig()
    """Changes drawn for every crop on its own; position labels are those of the unchanged box."""
    augment_region: AugmentConfig = NO_CHANGE
    """Changes drawn once for the region, before it is cut: all crops move together, so that a
    small archive shows more arrangements and no crop becomes harder to place."""

    @property
    def crop_size(self) -> tuple[int, int, int]:
        """Size of one crop along I, J, K in voxels."""
        return three(self.crop_voxels)

    @property
    def view_size(self) -> tuple[int, int, int]:
        """Size along I, J, K of what the network is given."""
        return self.crop_size if self.resize_to is None else three(self.resize_to)

    @property
    def base_crops(self) -> int:
        """Base crops per sample, K."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def region_voxels(self) -> tuple[int, int, int]:
        """Size of the tiled region along I, J, K in voxels."""
        (a, b, c), (i, j, k) = self.grid, self.crop_size
        return a * i, b * j, c * k

    def draw(self, rng: np.random.Generator) -> GridDraw:
        """Draw the region's change, the positions of the random crops, then all their changes."""
        region = self.region_voxels
        region_change = draw_change(self.augment_region, rng, square=region[0] == region[1])
        starts_N3 = random_crop_starts(rng, self.random_crops, self.grid, self.crop_size)
        square = self.view_size[0] == self.view_size[1]
        changes = [
            draw_change(self.augment, rng, square=square)
            for _ in range(self.random_crops + self.base_crops)
        ]
        return GridDraw(
            region_change=region_change,
            starts_N3=starts_N3,
            random_changes=tuple(changes[: self.random_crops]),
            base_changes=tuple(changes[self.random_crops :]),
        )

    def cut(self, region: Region, draw: GridDraw) -> Sample:
        self.check(region)
        region_IJK = region.voxels_IJK
        if draw.region_change != CropChange():  # the usual case spares a copy of the region
            region_IJK = apply_change(region_IJK, draw.region_change)
        base_starts_K3 = base_grid_starts(self.grid, self.crop_size)
        labels_NK = position_labels(draw.starts_N3, base_starts_K3, self.crop_size)
        views_BCIJK = [
            self._crops(region_IJK, draw.starts_N3, draw.random_changes),
            self._crops(region_IJK, base_starts_K3, draw.base_changes),
        ]
        geometry = {
            "position_labels_BNK": labels_NK.astype(np.float32),
            "region_from_view_0_BN34": self._affines(draw.starts_N3, draw.random_changes),
            "region_from_view_1_BN34": self._affines(base_starts_K3, draw.base_changes),
        }
        return Sample(views_BCIJK, geometry)

    def unchanged(self) -> Self:
        """Return the spec that cuts the same views without augmentation."""
        return self.model_copy(update={"augment": NO_CHANGE, "augment_region": NO_CHANGE})

    def captions(self, batch: Batch) -> list[list[str]]:
        labels_RK = batch.geometry["position_labels_BNK"].flatten(0, 1)
        random = [
            ", ".join(f"{k}: {float(row[k]):.0%}" for k in row.argsort(descending=True) if row[k])
            for row in labels_RK
        ]
        return [random, [f"base {k % self.base_crops}" for k in range(len(batch.views_BCIJK[1]))]]

    def _crops(
        self,
        region_IJK: FloatArray,
        starts_N3: NDArray[np.int64],
        changes: tuple[CropChange, ...],
    ) -> FloatArray:
        crops_NCIJK = np.empty((len(changes), 1, *self.view_size), dtype=np.float32)
        for n, change in enumerate(changes):
            box = tuple(
                slice(start, start + size)
                for start, size in zip(starts_N3[n].tolist(), self.crop_size, strict=True)
            )
            apply_change(self._resized(region_IJK[box]), change, crops_NCIJK[n, 0])
        return crops_NCIJK

    def _affines(self, starts_N3: NDArray[np.int64], changes: tuple[CropChange, ...]) -> FloatArray:
        """Return the affines from voxels of crops to voxels of the region, ``(N, 3, 4)``."""
        steps_3 = [
            (cut - 1) / (shown - 1) if shown > 1 else 1.0
            for cut, shown in zip(self.crop_size, self.view_size, strict=True)
        ]
        cut_44 = np.diag([*steps_3, 1.0])
        affines_N44 = np.stack([cut_44 @ undo_change(c, self.view_size) for c in changes])
        affines_N44[:, :3, 3] += starts_N3
        return affines_N44[:, :3].astype(np.float32)

    def _resized(self, crop_IJK: FloatArray) -> FloatArray:
        """Return the crop at the network's size: linear, first and last voxels stay where they are.

        The published code of VoCo resizes so.
        """
        if self.view_size == self.crop_size:
            return crop_IJK
        x_BCIJK = torch.from_numpy(np.ascontiguousarray(crop_IJK))[None, None]
        x_BCIJK = F.interpolate(x_BCIJK, self.view_size, mode="trilinear", align_corners=True)
        return x_BCIJK[0, 0].numpy()
