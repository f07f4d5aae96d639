"""One embedding per organ, from the cells of an encoder's grid that show it.

After fVLM (Shui et al. 2025, arXiv:2501.14548): a learned query per organ attends to the organ's
cells, and each organ has a projection of its own.

Suffixes: B images, P cells, O organs, D features, H heads, E features of the projection.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class OrganAttention(nn.Module):
    """Attention of each organ's query over its cells, then a linear projection per organ.

    Args:
        width: Features of a cell, a multiple of the heads.
        organs: How many.
        out_dim: Length of the projection.
        heads: Attention heads.
    """

    def __init__(self, width: int, organs: int, out_dim: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query_OD = nn.Parameter(nn.init.trunc_normal_(torch.empty(organs, width), std=0.02))
        self.key_value = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.per_organ = nn.ModuleList(nn.Linear(width, out_dim) for _ in range(organs))

    def forward(self, cells_BPD: Tensor, mask_BOP: Tensor) -> Tensor:
        """Return unit vectors, ``(B, O, E)``.

        Args:
            cells_BPD: Features; those of several depths of an encoder one after the other, with
                the mask repeated.
            mask_BOP: Boolean: which cells show which organ. An organ without any sees all cells;
                whether it is there is for the loss to know.
        """
        query_BOD = self.query_OD.to(cells_BPD.dtype).expand(len(cells_BPD), -1, -1)
        key_BPD, value_BPD = self.key_value(cells_BPD).chunk(2, dim=-1)
        query, key, value = (
            z.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for z in (query_BOD, key_BPD, value_BPD)
        )
        seen_B1OP = (mask_BOP | ~mask_BOP.any(-1, keepdim=True))[:, None]
        pooled_BHOD = F.scaled_dot_product_attention(query, key, value, attn_mask=seen_B1OP)
        pooled_BOD = self.proj(pooled_BHOD.transpose(1, 2).flatten(2))
        organs = zip(self.per_organ, pooled_BOD.unbind(1), strict=True)
        return F.normalize(torch.stack([project(z_BD) for project, z_BD in organs], 1), dim=-1)
