"""SimCLR in volumes: crops of one place are alike, crops of other places are not.

Chen et al. 2020 (arXiv:2002.05709), with the later choices of what the loss looks like.
"""

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from medssl.data.crop_views import check_one_size
from medssl.data.partition_views import PartitionViews
from medssl.data.views import Batch
from medssl.losses import ntxent as losses
from medssl.losses.alignment_uniformity import scores
from medssl.losses.gather import gather_rows
from medssl.losses.ntxent import Mixing, Pairs
from medssl.methods.base import LossOutput, Method
from medssl.models.encoders.base import Encoder
from medssl.models.heads import BatchNormMLP
from medssl.runs.processes import world_size

Positive = Annotated[float, Field(gt=0)]
Width = Annotated[int, Field(gt=0)]


class SimCLR(Method):
    """Tell crops of the same region from crops of all other regions of the batch."""

    class Config(Method.Config):
        views: PartitionViews = PartitionViews()
        """Crops of one region of each volume, or of one region from each of its partitions."""
        loss: Literal["ntxent", "dcl", "dclw", "mochi", "intra_volume"] = "ntxent"
        """`ntxent` as published; `dcl`, the positive is left out of its own denominator; `dclw`,
        and positives far apart count more (arXiv:2110.06848); `mochi`, hard negatives are mixed
        into harder ones (arXiv:2010.01028); `intra_volume`, negatives are other regions of the
        same volume, as in CT-FM (arXiv:2501.09001): needs views of several partitions."""
        temperature: Positive = 0.1
        """Divides the cosines."""
        sigma: Positive = 0.5
        """For `dclw`: divides the cosines that the weights come from."""
        hardest: Width = 64
        """For `mochi`: negatives per crop that are mixed, those most like it."""
        mixed: Annotated[int, Field(ge=0)] = 64
        """For `mochi`: negatives made per crop from two of them."""
        mixed_with_anchor: Annotated[int, Field(ge=0)] = 16
        """For `mochi`: negatives made per crop from one of them and the crop itself."""
        hidden_dim: Width = 1024
        """Width of the projector's hidden layers."""
        projection_dim: Width = 128
        """Length of the vectors the loss compares."""

        @classmethod
        def tiny(cls) -> Self:
            views = PartitionViews(crop_voxels=8, partitions=(1, 1, 2))
            return cls(views=views, hidden_dim=16, projection_dim=16)

        @model_validator(mode="after")
        def _pairs_exist(self) -> Self:
            check_one_size(self.views)
            if self.views.crops < 2:  # noqa: PLR2004 - a pair
                raise ValueError("views.crops is 1: set it to 2 or more, so that there are pairs")
            if self.loss == "intra_volume" and self.views.parts == 1:
                raise ValueError(
                    "loss intra_volume compares regions of one volume, and views.partitions "
                    "[1, 1, 1] gives one: choose more, such as [2, 2, 2]"
                )
            return self

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.encoder, self.views = config, encoder, config.views
        self.projector = BatchNormMLP(encoder.embed_dim, config.hidden_dim, config.projection_dim)

    def loss(self, batch: Batch, *, progress: float) -> LossOutput:
        z_ND = gather_rows(self.projector(self.encoder.embed(batch.views_BCIJK[0])))
        pairs = self._pairs(len(z_ND), z_ND.device)
        total = self._contrast(z_ND, pairs)
        return LossOutput(
            total=total,
            parts={self.config.loss: total},
            scores={**losses.pair_scores(z_ND, pairs), **scores(z_ND, pairs.positive_NN)},
            z_ND=z_ND,
        )

    def constant_loss(self, batch: Batch) -> dict[str, float]:
        config = self.config
        bound = losses.collapsed(
            self._pairs(len(batch.views_BCIJK[0]) * world_size(), torch.device("cpu")),
            decoupled=config.loss in {"dcl", "dclw"},
            synthetic=(config.mixed + config.mixed_with_anchor) * (config.loss == "mochi"),
        )
        return {config.loss: bound}

    def _pairs(self, rows: int, device: torch.device) -> Pairs:
        """Return the pairs of rows that lie volume by volume, region by region, crop by crop."""
        row_N = torch.arange(rows, device=device)
        region_N = row_N // self.config.views.crops
        within = self.config.loss == "intra_volume"
        return losses.pairs_of_samples(
            region_N, region_N // self.config.views.parts if within else None
        )

    def _contrast(self, z_ND: Tensor, pairs: Pairs) -> Tensor:
        config, temperature = self.config, self.config.temperature
        match config.loss:
            case "dcl":
                return losses.dcl(z_ND, *pairs, temperature)
            case "dclw":
                return losses.dcl(z_ND, *pairs, temperature, sigma=config.sigma)
            case "mochi":
                mixing = Mixing(config.hardest, config.mixed, config.mixed_with_anchor)
                return losses.mochi(z_ND, *pairs, temperature, mixing)
            case _:
                return losses.masked_info_nce(z_ND, *pairs, temperature)
