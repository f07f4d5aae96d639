"""The encoder of SegResNet (Myronenko 2018, arXiv:1810.11654), as MONAI builds it."""

from typing import Annotated, Any, Literal, cast

import torch
from monai.networks.nets.segresnet_ds import SegResEncoder, SegResNetDS
from pydantic import Field
from torch import Tensor, nn

from medssl.models.encoders.base import Encoder


class SegResNetEncoder(Encoder):
    """Residual stages, each halving the grid and doubling the channels."""

    class Config(Encoder.Config):
        width: Annotated[int, Field(gt=0)] = 16
        """Channels of the first stage."""
        blocks: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1)] = (
            1,
            1,
            1,
            1,
        )
        """Residual blocks of each stage, finest first; as many stages as numbers."""
        in_channels: Annotated[int, Field(gt=0)] = 1
        """Channels of the input volume."""
        norm: Literal["instance", "batch"] = "instance"
        """Normalisation inside the blocks."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        stages = range(len(config.blocks))
        self.channels = tuple(config.width * 2**stage for stage in stages)
        self.strides = tuple(2**stage for stage in stages)
        self.net = SegResEncoder(**self._arguments())

    def _arguments(self) -> dict[str, Any]:
        return {
            "spatial_dims": 3,
            "init_filters": self.config.width,
            "in_channels": self.config.in_channels,
            "norm": self.config.norm,
            "blocks_down": list(self.config.blocks),
        }

    def features(self, x_BCIJK: Tensor) -> list[Tensor]:
        return cast(list[Tensor], self.net(x_BCIJK))

    def embed(self, x_BCIJK: Tensor) -> Tensor:
        # Its blocks normalise and activate what they are given, not what they return: a mean of
        # the maps themselves would be blind to where their positive parts lie.
        return torch.cat([m.relu().mean((2, 3, 4)) for m in self.features(x_BCIJK)], dim=1)

    def segmenter(self, out_channels: int) -> tuple[nn.Module, dict[str, Any]]:
        arguments = {**self._arguments(), "out_channels": out_channels, "dsdepth": 1}
        network = SegResNetDS(**arguments)
        network.encoder = self.net
        return network, {"_target_": "SegResNetDS", **arguments}
