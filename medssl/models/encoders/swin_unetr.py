"""The encoder of Swin UNETR, as MONAI builds it and as VoCo, VoComni and NVIDIA publish it."""

from typing import Annotated, Any, Literal, Self, cast

import torch
from monai.networks.blocks.dynunet_block import UnetOutBlock
from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrUpBlock
from monai.networks.nets.swin_unetr import SwinTransformer, SwinUNETR
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from medssl.errors import ConfigError
from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder, check_normed_grid, pooled
from medssl.models.swin_blocks import without_padding

Positive = Annotated[int, Field(gt=0)]
PerStage = tuple[Positive, Positive, Positive, Positive]

ENCODER_PARTS = ("swinViT", "encoder1", "encoder2", "encoder3", "encoder4", "encoder10")
DECODER_PARTS = ("decoder5", "decoder4", "decoder3", "decoder2", "decoder1")


class SwinUNETREncoder(Encoder):
    """Four stages of windowed attention, and a residual block for each map of the pyramid.

    Hatamizadeh et al. 2022 (arXiv:2201.01266); with ``use_v2`` a residual block before each stage
    as well (He et al. 2023, SwinUNETR-V2). Its tensors have MONAI's names, so weights move
    between the two by name. VoCo-B, -L and -H are ``feature_size`` 48, 96 and 192.
    """

    class Config(Encoder.Config):
        dims: Literal[2, 3] = 3
        """2 for slices, 3 for volumes."""
        in_channels: Positive = 1
        """Channels of the input."""
        feature_size: Annotated[int, Field(gt=0, multiple_of=12)] = 48
        """Channels of the finest map; the coarsest has 16 times as many."""
        use_v2: bool = True
        """A residual convolution block before each stage, as VoCo's weights have it; NVIDIA's
        `model_swinvit.pt` has none."""
        depths: PerStage = (2, 2, 2, 2)
        """Attention blocks of each stage, finest first."""
        heads: PerStage = (3, 6, 12, 24)
        """Attention heads of each stage; they share its channels."""
        window: Annotated[int, Field(gt=1)] = 7
        """Side of the window, in tokens, within which tokens attend to each other."""

        @classmethod
        def tiny(cls) -> Self:
            return cls(feature_size=12, depths=(1, 1, 1, 1), window=2)

        @model_validator(mode="after")
        def _heads_share_the_channels(self) -> Self:
            for stage, heads in enumerate(self.heads):
                channels = self.feature_size * 2**stage
                if channels % heads:
                    raise ValueError(
                        f"stage {stage + 1} has {channels} channels, which {heads} heads cannot "
                        "share equally"
                    )
            return self

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.dims = config.dims
        size = config.feature_size
        self.channels = tuple(size * n for n in (1, 1, 2, 4, 8, 16))
        self.strides = (1, 2, 4, 8, 16, 32)
        with _NumbersOnCPU():
            swin = SwinTransformer(
                in_chans=config.in_channels,
                embed_dim=size,
                window_size=(config.window,) * config.dims,
                patch_size=(2,) * config.dims,
                depths=config.depths,
                num_heads=config.heads,
                spatial_dims=config.dims,
                use_v2=config.use_v2,
            )
        self.swinViT = without_padding(swin)
        self.encoder1 = _block(config.dims, config.in_channels, size)
        self.encoder2 = _block(config.dims, size, size)
        self.encoder3 = _block(config.dims, 2 * size, 2 * size)
        self.encoder4 = _block(config.dims, 4 * size, 4 * size)
        self.encoder10 = _block(config.dims, 16 * size, 16 * size)

    @property
    def embed_dim(self) -> int:
        return sum(self.channels) - self.channels[4]

    def features(self, x_BCIJK: Tensor) -> list[Tensor]:
        """Return the six maps that the decoder reads, ``channels[l]`` at ``strides[l]``.

        Raises:
            ConfigError: An axis is no multiple of 32, or the coarsest map is a single voxel.
        """
        grid, stride = tuple(x_BCIJK.shape[2:]), self.strides[-1]
        if any(n % stride for n in grid):
            raise ConfigError(
                f"Swin UNETR was given {grid} voxels, of which every axis must be a multiple of "
                f"{stride}",
                hint="choose such a size for crops and patches, 64 or 96 along each axis",
            )
        check_normed_grid(x_BCIJK, stride)
        full = self.encoder1(x_BCIJK)
        at_2, at_4, at_8, at_16, at_32 = self.swinViT(x_BCIJK)
        return [
            full,
            self.encoder2(at_2),
            self.encoder3(at_4),
            self.encoder4(at_8),
            at_16,
            self.encoder10(at_32),
        ]

    def pool(self, features: list[Tensor]) -> Tensor:
        # As VoCo's published code pools: only what a convolution block has made, 24 C long.
        return torch.cat([pooled(level) for level in (*features[:4], features[5])], dim=1)

    def stages(self) -> list[nn.Module]:
        swin = self.swinViT
        stages: list[nn.Module] = [self.encoder1, swin.patch_embed]
        for number in range(1, 5):
            if self.config.use_v2:
                stages += getattr(swin, f"layers{number}c")
            stages += getattr(swin, f"layers{number}")
        return [*stages, self.encoder2, self.encoder3, self.encoder4, self.encoder10]

    def decoder(self) -> Decoder:
        return SwinUNETRDecoder(self.dims, self.channels)

    def last_layer(self, network: nn.Module) -> nn.Module:
        last: nn.Module = network.out  # type: ignore[assignment]
        return last

    def segmenter(
        self, out_channels: int, decoder: Decoder | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        config = self.config
        arguments: dict[str, Any] = {
            "in_channels": config.in_channels,
            "out_channels": out_channels,
            "feature_size": config.feature_size,
            "depths": list(config.depths),
            "num_heads": list(config.heads),
            "window_size": config.window,
            "use_v2": config.use_v2,
            "spatial_dims": config.dims,
        }
        with torch.device("meta"), _NumbersOnCPU():
            network = SwinUNETR(**arguments)  # an empty frame: every part of it is set below
        for name in ENCODER_PARTS:
            setattr(network, name, getattr(self, name))
        decoder = self.decoder() if decoder is None else decoder
        for name in DECODER_PARTS:
            setattr(network, name, getattr(decoder, name))
        network.out = UnetOutBlock(config.dims, config.feature_size, out_channels)
        return network, {"_target_": "SwinUNETR", **arguments}


_BLOCK: dict[str, Any] = {"kernel_size": 3, "norm_name": "instance", "res_block": True}


def _block(dims: int, in_channels: int, out_channels: int) -> nn.Module:
    block: nn.Module = UnetrBasicBlock(dims, in_channels, out_channels, stride=1, **_BLOCK)
    return block


class SwinUNETRDecoder(Decoder):
    """Transposed convolutions and residual blocks, from stride 32 to the input's grid.

    Args:
        dims: 2 or 3.
        channels: Of the encoder's six maps, finest first.
    """

    def __init__(self, dims: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.channels = channels[-2::-1]
        for name, below, here in zip(DECODER_PARTS, channels[::-1], self.channels, strict=False):
            block = UnetrUpBlock(dims, below, here, **_BLOCK, upsample_kernel_size=2)
            self.add_module(name, block)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        x, *skips = reversed(features)
        maps = []
        for name, skip in zip(DECODER_PARTS, skips, strict=True):
            x = cast(nn.Module, getattr(self, name))(x, skip)
            maps.append(x)
        return maps


class _NumbersOnCPU(TorchFunctionMode):
    """Lets MONAI be built on the meta device, though it reads its drop rates off a tensor."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.linspace:
            kwargs = {**kwargs, "device": "cpu"}
        return func(*args, **kwargs)
