"""A network that segments with the features of an encoder and one linear layer."""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from medssl.config.stored import read_component
from medssl.models.encoders.base import Encoder
from medssl.models.norms import SharedBatchNorm
from medssl.models.unet import CONV, INTERPOLATION


class LinearSegmenter(nn.Module):
    """All maps of an encoder on the grid of the input, normed, and a 1x1 convolution.

    As the linear probe of DINOv2 (Oquab et al. 2023, arXiv:2304.07193, sec. 7.4), with the maps
    of all levels, whose coarsest alone shows no small structure. The norm learns nothing but mean
    and variance of each channel, so at test time logits are linear in the features. A convolution
    of 1x1 and linear interpolation can change places: every map gets its logits on its own grid,
    and they are brought to the input's and added.

    Args:
        encoder: The encoder, or its name and options.
        out_channels: Classes.
    """

    def __init__(self, encoder: Encoder | Mapping[str, Any], out_channels: int) -> None:
        super().__init__()
        if not isinstance(encoder, Encoder):
            config = read_component("medssl.models.encoders", encoder, trust_names=False)
            encoder = cast(Encoder, config.build())
        self.encoder = encoder
        self.norms = nn.ModuleList(SharedBatchNorm(n, affine=False) for n in encoder.channels)
        self.heads = nn.ModuleList(
            CONV[encoder.dims](n, out_channels, 1, bias=level == 0)
            for level, n in enumerate(encoder.channels)
        )

    def forward(self, x_BCIJK: Tensor) -> Tensor:
        """Return logits on the input's grid."""
        grid, mode = tuple(x_BCIJK.shape[2:]), INTERPOLATION[self.encoder.dims]
        levels = zip(self.encoder.features(x_BCIJK), self.norms, self.heads, strict=True)
        logits = [F.interpolate(head(norm(level)), grid, mode=mode) for level, norm, head in levels]
        return sum(logits[1:], start=logits[0])


def linear_segmenter(encoder: Encoder, out_channels: int) -> tuple[LinearSegmenter, dict[str, Any]]:
    """Return the network and how MONAI builds it, as ``Encoder.segmenter`` does.

    Args:
        encoder: The encoder, whose weights are the network's.
        out_channels: Classes.
    """
    config = cast(Encoder.Config, encoder.config)
    return LinearSegmenter(encoder, out_channels), {
        "_target_": "medssl.models.linear_segmenter.LinearSegmenter",
        "encoder": config.model_dump(mode="json"),
        "out_channels": out_channels,
    }
