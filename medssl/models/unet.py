"""The U-Nets of nnU-Net, plain and with residual encoder, in two and in three dimensions.

Isensee et al., "nnU-Net" (Nature Methods 2021) and "nnU-Net Revisited" (MICCAI 2024,
arXiv:2404.09556). Convolutions, normalisation and the order of layers are theirs, and so are the
names of the encoder's tensors, so that weights move between the two by name.
"""

from collections.abc import Sequence
from itertools import islice, pairwise

import torch
from torch import Tensor, nn

from medssl.models.decoders import Decoder

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
INTERPOLATION = {2: "bilinear", 3: "trilinear"}
POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


class ConvNormAct(nn.Module):
    """Convolution, instance norm and, where asked for, leaky ReLU."""

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        bias: bool = True,
        act: bool = True,
    ) -> None:
        super().__init__()
        padding = (kernel - 1) // 2
        self.conv = CONV[dims](in_channels, out_channels, kernel, stride, padding, bias=bias)
        self.norm = NORM[dims](out_channels, eps=1e-5, affine=True)
        self.nonlin = nn.LeakyReLU(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated map."""
        y: Tensor = self.nonlin(self.norm(self.conv(x)))
        return y


class ConvStack(nn.Module):
    """Convolutions in a row; the first may stride."""

    def __init__(
        self, dims: int, in_channels: int, out_channels: int, *, convs: int, stride: int = 1
    ) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * convs
        self.convs = nn.Sequential(
            *(
                ConvNormAct(dims, a, b, stride=stride if first else 1)
                for (a, b), first in zip(pairwise(widths), [True] + [False] * convs, strict=False)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the last map."""
        y: Tensor = self.convs(x)
        return y


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut that pools before it projects (ResNet-D)."""

    def __init__(self, dims: int, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(dims, in_channels, out_channels, stride=stride)
        self.conv2 = ConvNormAct(dims, out_channels, out_channels, act=False)
        self.nonlin2 = nn.LeakyReLU(inplace=True)
        shortcut: list[nn.Module] = []
        if stride != 1:
            shortcut.append(POOL[dims](stride, stride))
        if in_channels != out_channels:
            project = ConvNormAct(dims, in_channels, out_channels, kernel=1, bias=False, act=False)
            shortcut.append(project)
        self.skip = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both paths, activated."""
        y: Tensor = self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))
        return y


class ResidualStack(nn.Module):
    """Residual blocks in a row; the first may stride."""

    def __init__(
        self, dims: int, in_channels: int, out_channels: int, *, blocks: int, stride: int
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            ResidualBlock(dims, in_channels, out_channels, stride=stride),
            *(ResidualBlock(dims, out_channels, out_channels, stride=1) for _ in range(blocks - 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the last map."""
        y: Tensor = self.blocks(x)
        return y


class PyramidEncoder(nn.Module):
    """Stages, each but the first on half the grid of the one before; returns all their maps.

    Args:
        dims: 2 or 3.
        in_channels: Channels of the input.
        channels: Of each stage, finest first.
        depths: Convolutions (plain) or residual blocks of each stage.
        residual: Residual blocks behind a convolution as stem, or plain convolutions.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        channels: Sequence[int],
        depths: Sequence[int],
        *,
        residual: bool,
    ) -> None:
        super().__init__()
        strides = [1] + [2] * (len(channels) - 1)
        if residual:
            self.stem: nn.Module = ConvStack(dims, in_channels, channels[0], convs=1)
            widths = pairwise([channels[0], *channels])
            stages: list[nn.Module] = [
                ResidualStack(dims, a, b, blocks=depth, stride=stride)
                for (a, b), depth, stride in zip(widths, depths, strides, strict=True)
            ]
        else:
            self.stem = nn.Identity()
            widths = pairwise([in_channels, *channels])
            stages = [
                nn.Sequential(ConvStack(dims, a, b, convs=depth, stride=stride))
                for (a, b), depth, stride in zip(widths, depths, strides, strict=True)
            ]
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return one map per stage, finest first."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class UNetDecoder(Decoder):
    """From the coarsest map up: transposed convolution, the encoder's map beside it, convolutions.

    Args:
        dims: 2 or 3.
        channels: Of the encoder's maps, finest first.
        convs: Convolutions of each level.
    """

    def __init__(self, dims: int, channels: Sequence[int], *, convs: int) -> None:
        super().__init__()
        up = list(pairwise(reversed(channels)))
        self.transpconvs = nn.ModuleList(TRANSPOSED[dims](a, b, 2, 2) for a, b in up)
        self.stages = nn.ModuleList(ConvStack(dims, 2 * b, b, convs=convs) for _, b in up)
        self.channels = tuple(b for _, b in up)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return self.first_maps(features, len(self.stages))

    def first_maps(self, features: list[Tensor], count: int) -> list[Tensor]:
        x, *skips = reversed(features)
        maps = []
        levels = zip(self.transpconvs, self.stages, skips, strict=True)
        for raise_, stage, skip in islice(levels, count):
            x = stage(torch.cat([raise_(x), skip], dim=1))
            maps.append(x)
        return maps


class UNet(nn.Module):
    """Encoder, decoder and a 1x1 convolution to ``out_channels``.

    Args:
        dims: 2 or 3.
        in_channels: Channels of the input.
        out_channels: Classes.
        channels: Of each stage, finest first.
        depths: Convolutions or residual blocks of each stage.
        residual: As in :class:`PyramidEncoder`.
        decoder_convs: Convolutions of each level of the decoder.
    """

    def __init__(
        self,
        *,
        dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int],
        depths: Sequence[int],
        residual: bool,
        decoder_convs: int,
    ) -> None:
        super().__init__()
        self.encoder = PyramidEncoder(dims, in_channels, channels, depths, residual=residual)
        self.decoder = UNetDecoder(dims, channels, convs=decoder_convs)
        self.head = CONV[dims](channels[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits on the input's grid."""
        y: Tensor = self.head(self.decoder(self.encoder(x))[-1])
        return y


def initialise(module: nn.Module) -> None:
    """Draw the weights of convolutions from He's normal distribution, as nnU-Net does."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(part.weight, a=1e-2)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
