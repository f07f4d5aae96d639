"""What tasks share whose answer is about a whole volume."""

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medssl.models.classifier import Classifier, Pooling
from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder
from medssl.tasks.base import Spec, Task

MISSING = ""


class WholeVolumeTask(Task):
    """A volume is brought to the patch's size, and an encoder's embedding answers."""

    class Config(Task.Config):
        columns: Annotated[tuple[str, ...], Field(min_length=1)]
        """Columns of the labelled table."""
        pooling: Pooling = "mean"
        """Over places, or over slices where the encoder is 2D: mean, max, or learned attention."""
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
        """Chance that a feature of the embedding is dropped in training."""
        fit: Literal["resize", "crop"] = "resize"
        """How a volume becomes `patch_voxels`: `resize` shows all of it, at another voxel size;
        `crop` its middle, filled up with zeros where it is smaller."""

        @model_validator(mode="after")
        def _named_once(self) -> Self:
            twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
            if twice:
                raise ValueError(f"columns names {', '.join(twice)} more than once")
            return self

        @property
        def target_columns(self) -> tuple[str, ...]:
            return self.columns

    config: Config

    def network(
        self, encoder: Encoder, decoder: Decoder | None = None
    ) -> tuple[nn.Module, Spec | None]:
        pooling, dropout = self.config.pooling, self.config.dropout
        return Classifier(encoder, self.out_channels, pooling=pooling, dropout=dropout), None

    def input_specs(self, patch_voxels: tuple[int, int, int]) -> list[Spec]:
        size = list(patch_voxels)
        if self.config.fit == "crop":
            return [{"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": size}]
        # area: every voxel counts, so nothing is lost between the samples of a large volume
        return [
            {"_target_": "Resized", "keys": "image", "spatial_size": size, "mode": "area"},
        ]

    def inferer_spec(self, patch_voxels: tuple[int, int, int]) -> Spec:
        return {"_target_": "SimpleInferer"}


def mean_where_known(values: Tensor, known: Tensor) -> Tensor:
    """Return the mean of the known values; 0 with a gradient of 0 where none is known."""
    total = torch.where(known, values, torch.zeros_like(values)).sum()
    return total / known.sum().clamp(min=1)
