"""From an encoder's maps back to grey values: what reconstruction objectives train beside it."""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder
from medssl.models.unet import CONV, INTERPOLATION, NORM, TRANSPOSED

Reconstruction = Literal["decoder", "upsampled", "transposed"]
"""``decoder``: the decoder of the encoder's own segmentation network, with its skip connections,
worth keeping; the other two see the coarsest map alone, as published: ``upsampled`` by convolution,
instance norm, leaky ReLU and interpolation (Tang et al., CVPR 2022), or ``transposed`` by
transposed convolutions, here with GELU between them (Chalcroft et al., SASHIMI 2025)."""


class Reconstructor(nn.Module):
    """Grey values on the input's grid, from the maps of an encoder.

    Args:
        kind: Which network.
        encoder: Whose maps it is given.
        out_channels: Channels of what is reconstructed.
    """

    decoder: Decoder | None
    """The decoder inside, where there is one worth keeping."""

    def __init__(self, kind: Reconstruction, encoder: Encoder, out_channels: int = 1) -> None:
        super().__init__()
        self.decoder = encoder.decoder() if kind == "decoder" else None
        if self.decoder is not None:
            width = self.decoder.channels[-1]
        else:
            self.rise, width = _rising(kind, encoder)
        self.out = CONV[encoder.dims](width, out_channels, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return ``(B, out_channels, ...)`` from what ``Encoder.features`` returns."""
        if self.decoder is not None:
            map_BCIJK = self.decoder(features)[-1]
        else:
            map_BCIJK = self.rise(features[-1])
        y: Tensor = self.out(map_BCIJK)
        return y


def _rising(kind: Reconstruction, encoder: Encoder) -> tuple[nn.Sequential, int]:
    """Return steps from the coarsest map to the input's grid, and how wide the last one is.

    Each doubles the grid and halves the channels, but for the last of ``upsampled``, which keeps
    them; an odd factor that is left comes last.
    """
    step = _upsampled if kind == "upsampled" else _transposed
    left, factors = encoder.strides[-1], list[int]()
    while left > 1:
        factors.append(2 if left % 2 == 0 else left)
        left //= factors[-1]
    widths = [max(encoder.channels[-1] // 2**n, 1) for n in range(len(factors) + 1)]
    if kind == "upsampled" and len(factors) > 1:
        widths[-1] = widths[-2]  # as published
    steps = [
        step(encoder.dims, a, b, factor)
        for (a, b), factor in zip(pairwise(widths), factors, strict=True)
    ]
    return nn.Sequential(*steps), widths[-1]


def _upsampled(dims: int, in_channels: int, out_channels: int, factor: int) -> nn.Module:
    return nn.Sequential(
        CONV[dims](in_channels, out_channels, 3, padding=1),
        NORM[dims](out_channels),
        nn.LeakyReLU(),
        nn.Upsample(scale_factor=factor, mode=INTERPOLATION[dims]),
    )


def _transposed(dims: int, in_channels: int, out_channels: int, factor: int) -> nn.Module:
    return nn.Sequential(TRANSPOSED[dims](in_channels, out_channels, factor, factor), nn.GELU())
