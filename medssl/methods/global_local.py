"""Contrast of images by where they lie in their volume, and of places inside them.

The global part is Chaitanya et al. 2020 (arXiv:2006.10511), on slices or crops; the local part is
theirs (`lr`, `ld`), on a lattice of fixed places, or `matched`: features of the same place of two
overlapping crops. Stages: `encoder` trains the global part alone; `decoder` the local part alone,
as published on a frozen encoder; `joint` both at once, through encoder and decoder.
"""

from typing import Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

from medssl.data.crop_views import check_one_size
from medssl.data.partition_views import PartitionViews
from medssl.data.views import Batch
from medssl.losses import global_local as losses
from medssl.losses import lattice
from medssl.losses.gather import gather_rows
from medssl.losses.global_local import Origin
from medssl.methods._contrast import (
    GlobalContrast,
    GlobalPart,
    LatticePart,
    LocalContrast,
    MatchedPart,
    added,
)
from medssl.methods.base import LossOutput, Method
from medssl.models.encoders.base import Encoder


class GlobalLocal(Method):
    """Images of other parts of the body differ, and so do places inside them."""

    class Config(Method.Config):
        views: PartitionViews = PartitionViews(partitions=(1, 1, 4))
        """Crops of one region from each partition of every volume."""
        stage: Literal["encoder", "decoder", "joint"] = "joint"
        """Which parts train: the global one, the local one, or both."""
        freeze_encoder: bool = True
        """In stage `decoder`, train decoder and head alone, as published."""
        global_contrast: GlobalContrast = GlobalContrast()
        """The global part."""
        local_contrast: LocalContrast = LocalContrast()
        """The local part."""

        @classmethod
        def tiny(cls) -> Self:
            return cls(
                views=PartitionViews(crop_voxels=8, partitions=(1, 1, 2)),
                global_contrast=GlobalContrast(hidden_dim=16, projection_dim=16),
                local_contrast=LocalContrast(places=64, projection_dim=16),
            )

        @model_validator(mode="after")
        def _views_fit(self) -> Self:
            check_one_size(self.views)
            if self.views.crops < 2:  # noqa: PLR2004 - a pair
                raise ValueError("views.crops is 1: set it to 2 or more, so that there are pairs")
            if self.stage != "decoder":
                _global_fits(self.global_contrast, self.views)
            if self.stage != "encoder":
                _local_fits(self.local_contrast, self.views)
            return self

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.encoder, self.views = config, encoder, config.views
        self.frozen = config.stage == "decoder" and config.freeze_encoder
        encoder.requires_grad_(not self.frozen)
        self.global_part = (
            None
            if config.stage == "decoder"
            else GlobalPart(config.global_contrast, encoder, config.views.crop_size)
        )
        self.local_part: MatchedPart | LatticePart | None = None
        if config.stage != "encoder":
            kind = MatchedPart if config.local_contrast.strategy == "matched" else LatticePart
            self.local_part = kind(config.local_contrast, encoder)
            self.decoder = self.local_part.map.decoder

    def loss(self, batch: Batch, *, progress: float) -> LossOutput:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.encoder.features(batch.views_BCIJK[0])
        outputs = []
        if self.global_part is not None:
            embedding_ND = self.global_part.embed(self.encoder, features)
            outputs.append(self.global_part(embedding_ND, self._origin(batch)))
        if isinstance(self.local_part, MatchedPart):
            outputs.append(self.local_part(features, *self._crops(batch)))
        elif self.local_part is not None:
            outputs.append(self.local_part(features, self._origin(batch)))
        return added(outputs)

    def constant_loss(self, batch: Batch) -> dict[str, float]:
        rows = self._origin(batch)
        bounds = {}
        if self.global_part is not None:
            bounds["global"] = self.global_part.constant_loss(rows)
        if isinstance(self.local_part, MatchedPart):
            bounds |= self.local_part.constant_loss(*self._crops(batch))
        elif self.local_part is not None:
            bounds["local"] = self.local_part.constant_loss(rows)
        return bounds

    def _crops(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[int, int, int]]:
        affine_B34 = batch.geometry["region_from_view_0_BN34"].flatten(0, 1)
        views = self.config.views
        return affine_B34, view_pairs(len(affine_B34), views.crops), views.crop_size

    def _origin(self, batch: Batch) -> Origin:
        partition_BN = gather_rows(batch.geometry["partition_BN"])
        return losses.origin(partition_BN, self.config.views.crops)


def view_pairs(rows: int, crops: int) -> tuple[Tensor, Tensor]:
    """Return the first and the second row of every pair of crops of one region."""
    pairs_X2 = torch.combinations(torch.arange(crops))
    first_XR = pairs_X2[:, :1] + torch.arange(0, rows, crops)
    second_XR = pairs_X2[:, 1:] + torch.arange(0, rows, crops)
    return first_XR.T.flatten(), second_XR.T.flatten()


def _global_fits(config: GlobalContrast, views: PartitionViews) -> None:
    if config.strategy != "gr" and views.parts == 1:
        raise ValueError(
            f"global_contrast.strategy {config.strategy} compares partitions, and "
            "views.partitions [1, 1, 1] gives one: choose more, such as [1, 1, 4], or gr"
        )
    if config.layout == "published" and views.crops != losses.VIEWS[config.strategy]:
        raise ValueError(
            f"the published layout of {config.strategy} has {losses.VIEWS[config.strategy]} views "
            f"of an image, the original among them, and views.crops is {views.crops}"
        )


def _local_fits(config: LocalContrast, views: PartitionViews) -> None:
    if config.strategy == "matched":
        config.check_room(views.largest_box)
        return
    regions = lattice.REGIONS[views.dims]
    if config.neighbours >= regions:
        raise ValueError(
            f"local_contrast.neighbours is {config.neighbours}, and a region of the lattice has "
            f"{regions - 1} others"
        )
    moved = views.augment.flip_probability or views.augment.rotate_probability
    if views.spread != 1 or views.zoom != (1, 1) or moved:
        raise ValueError(
            f"local_contrast.strategy {config.strategy} compares the same voxels of two views, so "
            "they must show the same box: set views.spread to 1, views.zoom to [1, 1], and flip "
            "and rotate probabilities to 0, or choose the strategy matched"
        )
    if config.strategy == "ld" and views.parts == 1:
        raise ValueError(
            "local_contrast.strategy ld pairs partitions of volumes, and views.partitions "
            "[1, 1, 1] gives one: choose more, such as [1, 1, 4]"
        )
