"""VoCo with global and local contrast: one pass of one encoder over the crops of a grid.

A random crop lies in the partition of the base crop that it overlaps most. VoCo tells how much it
overlaps each (arXiv:2410.09890), the global contrast tells partitions apart (arXiv:2006.10511), and
the local contrast matches places that the random crop and that base crop share.
"""

from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from medssl.data.grid_views import GridViews
from medssl.data.views import Batch
from medssl.losses.gather import gather_rows
from medssl.losses.global_local import Origin
from medssl.methods._contrast import DenseContrast, GlobalContrast, GlobalPart, MatchedPart, added
from medssl.methods.base import LossOutput, Method
from medssl.methods.voco import Placement, PlacementConfig
from medssl.models.encoders.base import Encoder


class Joint(Method):
    """Place crops on their grid, tell its cells apart, and match places inside them."""

    class Config(PlacementConfig):
        placement_weight: Annotated[float, Field(gt=0)] = 1.0
        """Weight of VoCo's loss."""
        global_contrast: GlobalContrast = GlobalContrast()
        """Crops of one cell of the grid are views of one image."""
        local_contrast: DenseContrast = DenseContrast()
        """Places that a random crop shares with the base crop it overlaps most."""

        @classmethod
        def tiny(cls) -> Self:
            return cls(
                views=GridViews(grid=(2, 2, 1), crop_voxels=8, random_crops=2),
                hidden_dim=16,
                projection_dim=16,
                feature_dropout="none",
                global_contrast=GlobalContrast(hidden_dim=16, projection_dim=16),
                local_contrast=DenseContrast(places=64, projection_dim=16),
            )

        @model_validator(mode="after")
        def _parts_fit(self) -> Self:
            if self.global_contrast.layout == "published":
                raise ValueError(
                    "global_contrast.layout published counts slices and their views, and a grid "
                    "has crops: set it to even"
                )
            self.local_contrast.check_room(self.views.crop_size)
            return self

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.encoder, self.views = config, encoder, config.views
        self.placement = Placement(config, encoder)
        self.global_part = GlobalPart(config.global_contrast, encoder, config.views.view_size)
        self.local_part = MatchedPart(config.local_contrast, encoder)
        self.decoder = self.local_part.map.decoder

    def loss(self, batch: Batch, *, progress: float) -> LossOutput:
        features = self.encoder.features(torch.cat(batch.views_BCIJK))
        placed = self.placement.loss(batch, self.encoder.pool(features))
        embedding_ND = self.global_part.embed(self.encoder, features)
        apart = self.global_part(embedding_ND, _origin(batch))
        matched = self.local_part(features, *self._crops(batch))
        return added([_weighted(placed, self.config.placement_weight), apart, matched])

    def before_step(self, *, progress: float) -> None:
        self.placement.follow(self.encoder)

    def constant_loss(self, batch: Batch) -> dict[str, float]:
        placed = self.placement.constant_loss(batch)
        return {
            **{name: self.config.placement_weight * bound for name, bound in placed.items()},
            "global": self.global_part.constant_loss(_origin(batch)),
            **self.local_part.constant_loss(*self._crops(batch)),
        }

    def _crops(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[int, int, int]]:
        """Return affines of all crops, random crops with their base crops, and the crops' size."""
        affines = [batch.geometry[f"region_from_view_{kind}_BN34"] for kind in range(2)]
        cell_BN = batch.geometry["position_labels_BNK"].argmax(2)
        volumes, crops = cell_BN.shape
        first_P = torch.arange(volumes * crops, device=cell_BN.device)
        volume_B1 = torch.arange(volumes, device=cell_BN.device)[:, None]
        base_BN = volumes * crops + volume_B1 * self.config.views.base_crops + cell_BN
        affine_B34 = torch.cat([part.flatten(0, 1) for part in affines])
        return affine_B34, (first_P, base_BN.flatten()), self.config.views.view_size


def _origin(batch: Batch) -> Origin:
    """Return where the crops of all processes come from: of each, random crops, then base crops.

    Crops of one cell of one volume are one image; random crops are one kind of view of it, base
    crops the other.
    """
    labels_BNK = batch.geometry["position_labels_BNK"]
    volumes, _, cells = labels_BNK.shape
    random_BN = labels_BNK.argmax(2)
    base_BK = torch.arange(cells, device=random_BN.device).expand(volumes, -1)
    kinds = [random_BN, base_BK]
    mine_B1 = torch.arange(volumes, device=random_BN.device)[:, None]
    cell_R = torch.cat([kind.flatten() for kind in kinds])
    volume_R = torch.cat([mine_B1.expand_as(kind).flatten() for kind in kinds])
    view_R = torch.cat([torch.full_like(kind, n).flatten() for n, kind in enumerate(kinds)])
    cell_WR = gather_rows(cell_R[None])
    rank_W1 = torch.arange(len(cell_WR), device=cell_WR.device)[:, None]
    volume_N = (rank_W1 * volumes + volume_R).flatten()
    cell_N = cell_WR.flatten()
    return Origin(
        volumes=volumes * len(cell_WR),
        volume_N=volume_N,
        partition_N=cell_N,
        image_N=volume_N * cells + cell_N,
        view_N=view_R.repeat(len(cell_WR)),
    )


def _weighted(output: LossOutput, weight: float) -> LossOutput:
    parts = {name: weight * value for name, value in output.parts.items()}
    return LossOutput(
        total=weight * output.total, parts=parts, scores=output.scores, z_ND=output.z_ND
    )
