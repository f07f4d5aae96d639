"""Small matrices beside the layers of attention train; the encoder's own weights stay."""

from collections.abc import Iterator
from typing import Annotated, Literal, cast

import torch
from monai.networks.blocks import MLPBlock
from monai.networks.nets.swin_unetr import WindowAttention
from pydantic import Field
from torch import nn

from medssl.errors import ConfigError
from medssl.models.attention import MLP, Attention
from medssl.models.encoders.base import Encoder
from medssl.models.lora import LowRankLinear, add_low_rank, merge_low_rank
from medssl.training.strategies.base import Strategy

_PLACES = {
    "attention": (Attention, WindowAttention),
    "blocks": (Attention, WindowAttention, MLP, MLPBlock),
}


class LoRA(Strategy):
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685); decoder and head train as well.

    In the end the matrices are added to the weights they stand beside, so the trained network is
    one like any other. Everything else of the encoder is frozen: norms, tokens, convolutions.
    """

    class Config(Strategy.Config):
        rank: Annotated[int, Field(gt=0)] = 8
        """Rank of every change: the narrow side of its two matrices."""
        alpha: Annotated[float, Field(gt=0)] = 16.0
        """Changes are multiplied by this over the rank, so that another rank needs no other
        learning rate."""
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
        """Chance that an input of the matrices is dropped in training."""
        where: Literal["attention", "blocks"] = "attention"
        """`attention`: beside its projections. `blocks`: beside those of the MLPs as well."""

    config: Config

    def prepare(self, network: nn.Module, encoder: Encoder, *, seed: int) -> None:
        layers = list(_layers(encoder, self.config.where))
        if not layers:
            raise ConfigError(
                "lora works beside layers of attention, and the encoder "
                f"{cast(Encoder.Config, encoder.config).name} has none",
                hint="use it with the encoders vit and swin_unetr; a convolutional encoder is "
                "adapted with full, sawtooth or frozen_encoder",
            )
        if isinstance(layers[0], LowRankLinear):
            return
        config, generator = self.config, torch.Generator().manual_seed(seed)
        encoder.requires_grad_(False)
        for layer in layers:
            add_low_rank(
                layer,
                rank=config.rank,
                scale=config.alpha / config.rank,
                dropout=config.dropout,
                generator=generator,
            )

    def before_step(self, encoder: Encoder, step: int, steps: int) -> None:
        """Keep the running state of norms; drop paths and dropout stay those of training."""
        for part in encoder.modules():
            if getattr(part, "track_running_stats", False):
                part.eval()

    def finished(self, network: nn.Module, encoder: Encoder) -> None:
        for layer in _layers(encoder, self.config.where):
            merge_low_rank(layer)
        super().finished(network, encoder)


def _layers(encoder: Encoder, where: str) -> Iterator[nn.Linear]:
    """The linear layers to adapt, in an order that does not depend on chance."""
    for part in encoder.modules():
        if isinstance(part, _PLACES[where]):
            yield from (layer for layer in part.modules() if isinstance(layer, nn.Linear))
