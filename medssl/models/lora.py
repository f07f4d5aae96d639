"""A linear layer with a low-rank change beside its weights (Hu et al. 2021, arXiv:2106.09685)."""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LowRankLinear(nn.Linear):
    """``y = W x + b + scale * B A x`` (eq. 3): A ``(R, in)`` narrows, B ``(out, R)`` widens.

    Made of a plain layer by :func:`add_low_rank`, and made plain again by :func:`merge_low_rank`:
    the module stays the same one, and so do the names and tensors of its own weights. A library
    for it exists (peft), which needs transformers and a hub client to import.
    """

    low_rank_A: nn.Parameter
    low_rank_B: nn.Parameter
    scale: float
    dropout: float

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(..., out)`` of ``(..., in)``."""
        dropped = F.dropout(x, self.dropout, self.training)
        change = F.linear(F.linear(dropped, self.low_rank_A), self.low_rank_B)
        return super().forward(x) + self.scale * change


def add_low_rank(
    layer: nn.Linear, *, rank: int, scale: float, dropout: float, generator: torch.Generator
) -> None:
    """Freeze a plain layer and put a change beside it, in place.

    B begins at zero, so at first the layer computes what it did.

    Args:
        layer: What to change.
        rank: R.
        scale: ``alpha / R`` of the paper.
        dropout: Chance that an input of A is dropped in training.
        generator: A is drawn from it, on the CPU.
    """
    layer.requires_grad_(False)
    weight_OI = layer.weight
    first_RI = torch.empty(rank, layer.in_features)
    nn.init.kaiming_uniform_(first_RI, a=math.sqrt(5), generator=generator)
    layer.__class__ = LowRankLinear
    changed = cast(LowRankLinear, layer)
    changed.low_rank_A = nn.Parameter(first_RI.to(weight_OI))
    changed.low_rank_B = nn.Parameter(weight_OI.new_zeros(layer.out_features, rank))
    changed.scale, changed.dropout = scale, dropout


@torch.no_grad()
def merge_low_rank(layer: nn.Linear) -> None:
    """Add the change to the weights and make the layer plain, in place; a plain one stays."""
    if not isinstance(layer, LowRankLinear):
        return
    layer.weight += layer.scale * layer.low_rank_B @ layer.low_rank_A
    del layer.low_rank_A, layer.low_rank_B, layer.scale, layer.dropout
    layer.__class__ = nn.Linear  # type: ignore[assignment]
    layer.requires_grad_(True)
