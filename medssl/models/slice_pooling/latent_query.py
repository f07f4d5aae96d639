"""A few learned questions that are put to the members of a bag."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.models.slice_pooling.base import SlicePooling, attention_layer


class LatentQuery(SlicePooling):
    """Cross-attention from learned queries, whose answers are averaged.

    As Set Transformer pools (Lee et al. 2019, arXiv:1810.00825, sec. 3.2), without its MLP.
    Positions are not used.
    """

    class Config(SlicePooling.Config):
        queries: Annotated[int, Field(gt=0)] = 4
        """How many are learned."""
        heads: Annotated[int, Field(gt=0)] = 4
        """Attention heads; they share the width of the embedding."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__(config, width)
        self.query_1QD = nn.Parameter(torch.randn(1, config.queries, width) * width**-0.5)
        self.norm = nn.LayerNorm(width)
        self.attention = attention_layer(width, config.heads)

    def pooled(self, e_BSD: Tensor, mask_BS: Tensor, position_mm_BS: Tensor | None) -> Tensor:
        x_BSD = self.norm(e_BSD)
        query_BQD = self.query_1QD.expand(len(x_BSD), -1, -1)
        answer_BQD: Tensor = self.attention(
            query_BQD, x_BSD, x_BSD, key_padding_mask=~mask_BS, need_weights=False
        )[0]
        return answer_BQD.mean(1)
