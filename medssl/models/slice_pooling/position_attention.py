"""Members of a bag look at each other, and know how far apart they lie."""

import math
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medssl.models.slice_pooling.base import SlicePooling, attention_layer, masked_mean

Millimetres = Annotated[float, Field(gt=0)]


class PositionAttention(SlicePooling):
    """Self-attention over slices with their positions, then the mean, as RadCLIP pools.

    Positions are millimetres rather than numbers of slices, so series of any thickness are told
    apart rightly; without positions the members have no order. Attention is added to what it was
    given, so in the beginning this is close to the mean.
    """

    class Config(SlicePooling.Config):
        heads: Annotated[int, Field(gt=0)] = 4
        """Attention heads; they share the width of the embedding."""
        shortest_mm: Millimetres = 4.0
        """Of the waves that positions are told by, the shortest."""
        longest_mm: Millimetres = 4000.0
        """The longest; a few times what a series may cover."""

        @model_validator(mode="after")
        def _waves_grow(self) -> Self:
            if self.shortest_mm >= self.longest_mm:
                raise ValueError("shortest_mm must be below longest_mm")
            return self

    def __init__(self, config: Config, width: int) -> None:
        super().__init__(config, width)
        self.waves = config
        self.norm = nn.LayerNorm(width)
        self.attention = attention_layer(width, config.heads)

    def pooled(self, e_BSD: Tensor, mask_BS: Tensor, position_mm_BS: Tensor | None) -> Tensor:
        x_BSD = self.norm(e_BSD)
        if position_mm_BS is not None:
            x_BSD = x_BSD + sinusoids(
                position_mm_BS, self.width, self.waves.shortest_mm, self.waves.longest_mm
            ).to(x_BSD.dtype)
        seen_BSD, _ = self.attention(
            x_BSD, x_BSD, x_BSD, key_padding_mask=~mask_BS, need_weights=False
        )
        return masked_mean(e_BSD + seen_BSD, mask_BS)


def sinusoids(position_mm_BS: Tensor, width: int, shortest_mm: float, longest_mm: float) -> Tensor:
    """Return sines, then cosines, of positions, ``(B, S, width)``.

    Vaswani et al. 2017 (arXiv:1706.03762, sec. 3.5) with wavelengths in millimetres that grow
    geometrically from ``shortest_mm`` to ``longest_mm``; an odd width has one sine more.
    """
    count = (width + 1) // 2
    steps = torch.linspace(0, 1, count, device=position_mm_BS.device, dtype=position_mm_BS.dtype)
    length_mm_W = shortest_mm * (longest_mm / shortest_mm) ** steps
    angle_BSW = 2 * math.pi * position_mm_BS[..., None] / length_mm_W
    return torch.cat((angle_BSW.sin(), angle_BSW.cos()), dim=-1)[..., :width]
