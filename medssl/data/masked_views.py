"""Crops of which a part is to be hidden from the encoder: the views of masked modelling."""

import math
from typing import NamedTuple, Self

import numpy as np
from pydantic import model_validator

from medssl.data.crop_views import CropViews, Kinds
from medssl.data.masking import BoolArray, MaskConfig, draw_visible
from medssl.data.views import Batch, Region, Sample, ViewSpec


class MaskedDraw(NamedTuple):
    """What was drawn for one sample: its crops, and what of each may be seen."""

    crops: Kinds
    visible: tuple[BoolArray, ...]


class MaskedViews(ViewSpec[MaskedDraw]):
    """Crops as they are, and beside them which of their cells may be seen.

    ``Batch.views_BCIJK`` and the geometry are those of :class:`CropViews`; local crops are never
    hidden. The geometry also holds

    ``visible_0_BNIJK``
        for every crop of the first kind whether each of its cells of ``mask.cell_voxels`` may be
        seen (bool); without the K axis for slices.
    """

    crops: CropViews = CropViews()
    """What is cut."""
    mask: MaskConfig = MaskConfig()
    """What of it is hidden."""

    @model_validator(mode="after")
    def _cells_divide_the_crop(self) -> Self:
        cell, size = self.mask.cell_voxels, self._size
        if any(n % cell for n in size):
            raise ValueError(
                f"mask.cell_voxels is {cell}, which does not divide a crop of {size} voxels"
            )
        return self

    @property
    def _size(self) -> tuple[int, ...]:
        return self.crops.crop_size[: self.crops.dims]

    @property
    def cells(self) -> tuple[int, ...]:
        """Cells of a crop along each axis."""
        return tuple(n // self.mask.cell_voxels for n in self._size)

    @property
    def most_hidden(self) -> int:
        """Cells of a crop that are hidden at most."""
        return round(self.mask.ratio[1] * math.prod(self.cells)) if self.mask.probability else 0

    @property
    def region_voxels(self) -> tuple[int, int, int]:
        return self.crops.region_voxels

    def draw(self, rng: np.random.Generator) -> MaskedDraw:
        crops = self.crops.draw(rng)
        visible = tuple(draw_visible(self.mask, self.cells, rng) for _ in range(self.crops.crops))
        return MaskedDraw(crops, visible)

    def cut(self, region: Region, draw: MaskedDraw) -> Sample:
        views_BCIJK, geometry = self.crops.cut(region, draw.crops)
        return Sample(views_BCIJK, {**geometry, "visible_0_BNIJK": np.stack(draw.visible)})

    def unchanged(self) -> Self:
        """Return the spec that cuts the same crops as they look; as much of them is hidden."""
        return self.model_copy(update={"crops": self.crops.unchanged()})

    def captions(self, batch: Batch) -> list[list[str]]:
        first, *others = self.crops.captions(batch)
        hidden = (~batch.geometry["visible_0_BNIJK"]).flatten(2).float().mean(2).flatten().tolist()
        named = [f"{words}, {share:.0%} hidden" for words, share in zip(first, hidden, strict=True)]
        return [named, *others]
