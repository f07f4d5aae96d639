"""The encoder of SegResNet (Myronenko 2018, arXiv:1810.11654), as MONAI builds it."""

from itertools import islice
from typing import Annotated, Any, Literal, Self, cast

import torch
from monai.networks.nets.segresnet_ds import SegResEncoder, SegResNetDS
from pydantic import Field
from torch import Tensor, nn

from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder, check_normed_grid, pooled


class SegResNetEncoder(Encoder):
    """Residual stages, each halving the grid and doubling the channels."""

    class Config(Encoder.Config):
        width: Annotated[int, Field(gt=0)] = 16
        """Channels of the first stage."""
        blocks: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=2)] = (
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

        @classmethod
        def tiny(cls) -> Self:
            return cls(width=4, blocks=(1, 1))

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
        if self.config.norm == "instance":
            check_normed_grid(x_BCIJK, self.strides[-1])
        return cast(list[Tensor], self.net(x_BCIJK))

    def pool(self, features: list[Tensor]) -> Tensor:
        # Its blocks normalise and activate what they are given, not what they return: a mean of
        # the maps themselves would be blind to where their positive parts lie.
        return torch.cat([pooled(level.relu()) for level in features], dim=1)

    def stages(self) -> list[nn.Module]:
        parts = [part for level in _levels(self.net.layers) for part in level.values()]
        return [self.net.conv_init, *(p for p in parts if not isinstance(p, nn.Identity))]

    def decoder(self) -> Decoder:
        network, _ = self.segmenter(1)
        return SegResNetDecoder(_levels(network.up_layers), self.channels)

    def last_layer(self, network: nn.Module) -> nn.Module:
        return _levels(network.up_layers)[-1]["head"]

    def segmenter(
        self, out_channels: int, decoder: Decoder | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        arguments = {**self._arguments(), "out_channels": out_channels, "dsdepth": 1}
        network = SegResNetDS(**arguments)
        network.encoder = self.net
        if decoder is not None:
            trained_levels = _levels(decoder.up_layers)
            for mine, trained in zip(_levels(network.up_layers), trained_levels, strict=True):
                mine["upsample"], mine["blocks"] = trained["upsample"], trained["blocks"]
        return network, {"_target_": "SegResNetDS", **arguments}


class SegResNetDecoder(Decoder):
    """The levels of SegResNet's decoder, without its last convolution."""

    def __init__(self, up_layers: list[nn.ModuleDict], channels: tuple[int, ...]) -> None:
        super().__init__()
        self.up_layers = nn.ModuleList(
            nn.ModuleDict({"upsample": level["upsample"], "blocks": level["blocks"]})
            for level in up_layers
        )
        self.channels = channels[-2::-1]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return self.first_maps(features, len(self.up_layers))

    def first_maps(self, features: list[Tensor], count: int) -> list[Tensor]:
        x, *skips = reversed(features)
        maps = []
        levels = zip(_levels(self.up_layers), skips, strict=True)
        for level, skip in islice(levels, count):
            x = level["blocks"](level["upsample"](x) + skip)
            maps.append(x)
        return maps


def _levels(layers: Any) -> list[nn.ModuleDict]:
    """Return the levels that MONAI keeps in a module list, by their type."""
    return list(cast(nn.ModuleList, layers))  # type: ignore[arg-type]
