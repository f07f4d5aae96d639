"""Views of regions from known parts of a volume: what position-aware contrast compares."""

from typing import Annotated

import numpy as np
from pydantic import Field

from medssl.data.appearance import Appearance
from medssl.data.augment import CropChange
from medssl.data.crop_views import CropViews, Kinds, ViewDraw
from medssl.data.views import Band, Region, Sample

Positive = Annotated[int, Field(gt=0)]


class PartitionViews(CropViews):
    """Crops of one region from each partition of a volume (Chaitanya et al. 2020).

    The volume is cut into ``partitions`` equal boxes. A sample holds, for each of them, ``crops``
    views of a region whose centre lies in it: rows are ordered by volume, then partition, then
    crop. With one partition it is ``CropViews``.

    ``Batch.geometry`` has, beside what ``CropViews`` gives,

    ``partition_BN``
        the partition that the region of each crop lies in, the last axis varying fastest (int64);
        in a volume that is short for its regions it may be another one than was asked for.
    """

    partitions: tuple[Positive, Positive, Positive] = (1, 1, 1)
    """Boxes along right, anterior, superior; [1, 1, 4] is the published choice for slices."""
    keep_first: bool = False
    """Whether the first crop of every region stays as it is: the middle of the region, not
    magnified, turned, mirrored or changed in its grey values."""

    @property
    def parts(self) -> int:
        a, b, c = self.partitions
        return a * b * c

    def band(self, part: int) -> tuple[Band, Band, Band]:
        cells = np.unravel_index(part, self.partitions)
        i, j, k = (
            (int(cell) / count, (int(cell) + 1) / count)
            for cell, count in zip(cells, self.partitions, strict=True)
        )
        return i, j, k

    def draw(self, rng: np.random.Generator) -> Kinds:
        drawn = super().draw(rng)
        if not self.keep_first:
            return drawn
        room = np.subtract(self.region_voxels, self.crop_size, dtype=np.int64)
        i, j, k = (room // 2).tolist()
        as_it_is = ViewDraw(
            start_IJK=(i, j, k),
            size_IJK=self.crop_size,
            change=CropChange(),
            appearance=Appearance(),
        )
        return ((as_it_is, *drawn[0][1:]), *drawn[1:])

    def cut(self, region: Region, draw: Kinds) -> Sample:
        sample = super().cut(region, draw)
        centre_3 = np.add(region.start_IJK, np.divide(self.region_voxels, 2))
        cells_3 = np.floor(np.round(centre_3 / region.volume_shape * self.partitions, 6))
        inside_3 = np.clip(cells_3.astype(np.int64), 0, np.subtract(self.partitions, 1))
        partition = np.ravel_multi_index(tuple(inside_3), self.partitions)
        sample.geometry["partition_BN"] = np.full(self.crops, partition, np.int64)
        return sample
