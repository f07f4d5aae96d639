"""MONAI's SwinUNETR beside our Swin UNETR encoder: built, filled, and compared by its maps."""

from typing import Any, cast

import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor

from medssl.export.formats._checkpoint import largest_difference
from medssl.export.verify import REPORT, VerificationError
from medssl.models.encoders.base import Encoder
from medssl.models.encoders.swin_unetr import SwinUNETREncoder

CLOSE = 1e-6
"""Largest difference of maps in float64, relative to the largest; ours attends without padding."""


def not_swin(encoder: Encoder) -> str:
    """Return why a format of Swin UNETRs cannot hold ``encoder``; empty if it may."""
    if isinstance(encoder, SwinUNETREncoder):
        return ""
    config: Any = encoder.config
    return f"{config.name} is no Swin UNETR (encoder.name: swin_unetr)"


@torch.no_grad()
def compare_maps(network: SwinUNETR, encoder: SwinUNETREncoder, *, whole: bool) -> float:
    """Return how far MONAI's maps of a random volume are from ours.

    Args:
        network: MONAI's, filled from the written file; float64 afterwards.
        encoder: What was exported; float64 afterwards.
        whole: The maps behind the residual blocks, which a decoder reads, or those of the
            transformer alone.

    Raises:
        VerificationError: They differ by more than rounding.
    """
    stride, config = encoder.strides[-1], encoder.config
    shape = (2 * stride, stride, stride)[: config.dims]
    generator = torch.Generator().manual_seed(0)
    x_BCIJK = torch.rand(1, config.in_channels, *shape, generator=generator, dtype=torch.float64)
    network, encoder = network.eval().double(), encoder.eval().double()
    theirs = network.swinViT(x_BCIJK, network.normalize)
    mine = encoder.features(x_BCIJK) if whole else encoder.swinViT(x_BCIJK)
    if whole:
        theirs = _behind_blocks(network, x_BCIJK, theirs)
    difference = largest_difference(zip(mine, theirs, strict=True))
    if difference > CLOSE:
        raise VerificationError(
            f"MONAI's network gives other maps: they differ by {difference:.1g} of the largest",
            hint=REPORT,
        )
    return float(f"{difference:.1e}")


def _behind_blocks(network: SwinUNETR, x_BCIJK: Tensor, hidden: list[Tensor]) -> list[Tensor]:
    """Return the maps that MONAI's own ``forward`` hands to its decoder, finest first."""
    blocks = ("encoder1", "encoder2", "encoder3", "encoder4", None, "encoder10")
    return [
        value if name is None else cast(Tensor, getattr(network, name)(value))
        for name, value in zip(blocks, (x_BCIJK, *hidden), strict=True)
    ]
