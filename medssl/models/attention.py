"""Transformer blocks whose attention knows how far apart two tokens lie, in 2D or 3D.

Suffixes: B rows, N tokens, D width, H heads, P pairs of a head's features.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Rotation(NamedTuple):
    """By how much queries and keys are turned: cosine and sine of every pair's angle.

    ``(N, P)``, or ``(B, 1, N, P)`` where the tokens of the rows lie elsewhere.
    """

    cos: Tensor
    sin: Tensor


class BlockSize(NamedTuple):
    """What the blocks of one transformer have in common."""

    width: int
    """Features of a token."""
    heads: int
    """Attention heads; they share the width."""
    mlp_ratio: float
    """Hidden features of the MLP over the width."""
    mlp: Literal["swiglu", "gelu"] = "swiglu"
    """Gated (Shazeer 2020, arXiv:2002.05202) or plain."""
    layer_scale: float = 0.0
    """First value of the learned scale of each residual branch; 0 for none."""
    qk_norm: bool = False
    """Normalise queries and keys before they are compared."""


def grid_positions(grid: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the index along every axis of each token of a grid, ``(N, axes)``, in raster order."""
    axes = [torch.arange(size, device=device, dtype=torch.float32) for size in grid]
    return torch.cartesian_prod(*axes).view(-1, len(grid))


def rotation(positions_N3: Tensor, head_dim: int, base: float) -> Rotation:
    """Return the angles of axial rotary positions (Heo et al. 2024, arXiv:2403.13298, eq. 9).

    Every axis turns an equal share of a head's pairs; within a share, frequencies fall from 1 to
    nearly ``1 / base``.

    Args:
        positions_N3: Where the tokens lie, ``(N, axes)``.
        head_dim: Features of a head; a multiple of twice the axes.
        base: Of the frequencies.
    """
    axes = positions_N3.shape[1]
    count = head_dim // (2 * axes)
    steps = torch.arange(count, device=positions_N3.device, dtype=torch.float32) / count
    angles_NP = (positions_N3[:, :, None] * base**-steps).flatten(1)
    return Rotation(angles_NP.cos(), angles_NP.sin())


def rotated(x_BHND: Tensor, by: Rotation) -> Tensor:
    """Turn feature p of the first half of a head with feature p of the second half."""
    precise = torch.promote_types(x_BHND.dtype, torch.float32)
    first, second = x_BHND.to(precise).chunk(2, dim=-1)
    turned = (first * by.cos - second * by.sin, first * by.sin + second * by.cos)
    return torch.cat(turned, dim=-1).to(x_BHND.dtype)


class Attention(nn.Module):
    """Multi-head self-attention; with a rotation it sees distances, never absolute places."""

    def __init__(self, size: BlockSize) -> None:
        super().__init__()
        self.heads = size.heads
        self.qkv = nn.Linear(size.width, 3 * size.width)
        self.proj = nn.Linear(size.width, size.width)
        head_dim = size.width // size.heads
        self.norm_q = nn.LayerNorm(head_dim) if size.qk_norm else nn.Identity()
        self.norm_k = nn.LayerNorm(head_dim) if size.qk_norm else nn.Identity()

    def forward(self, x_BND: Tensor, turn: Rotation | None) -> Tensor:
        """Return what every token gathers from all tokens of its row."""
        q, k, v = self.qkv(x_BND).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.norm_q(q).to(v.dtype), self.norm_k(k).to(v.dtype)
        if turn is not None:
            q, k = rotated(q, turn), rotated(k, turn)
        out_BHND = F.scaled_dot_product_attention(q, k, v)
        y: Tensor = self.proj(out_BHND.transpose(1, 2).flatten(2))
        return y


class MLP(nn.Module):
    """Two layers with GELU between, or a third that gates it (SwiGLU)."""

    def __init__(self, size: BlockSize) -> None:
        super().__init__()
        hidden = round(size.width * size.mlp_ratio)
        self.inner = nn.Linear(size.width, hidden)
        self.gate = nn.Linear(size.width, hidden) if size.mlp == "swiglu" else None
        self.outer = nn.Linear(hidden, size.width)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return the transformed tokens."""
        inner = self.inner(x_BND)
        hidden = F.gelu(inner) if self.gate is None else F.silu(self.gate(x_BND)) * inner
        y: Tensor = self.outer(hidden)
        return y


class LayerScale(nn.Module):
    """One learned factor per feature (Touvron et al. 2021, arXiv:2103.17239)."""

    def __init__(self, width: int, first: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((width,), first))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled features."""
        return x * self.factor


def drop_path(x_BND: Tensor, probability: float, *, training: bool) -> Tensor:
    """Drop a residual branch for whole rows while training; scale what stays (arXiv:1603.09382)."""
    if not training or probability == 0:
        return x_BND
    keep_B11 = x_BND.new_empty(len(x_BND), 1, 1).bernoulli_(1 - probability)
    return x_BND * keep_B11 / (1 - probability)


class Block(nn.Module):
    """Attention, then an MLP, each on normed tokens and added to what it was given."""

    def __init__(self, size: BlockSize, *, drop: float = 0.0) -> None:
        super().__init__()
        self.drop = drop
        self.norm1, self.attention = nn.LayerNorm(size.width), Attention(size)
        self.norm2, self.mlp = nn.LayerNorm(size.width), MLP(size)
        scales = size.layer_scale > 0
        self.scale1 = LayerScale(size.width, size.layer_scale) if scales else nn.Identity()
        self.scale2 = LayerScale(size.width, size.layer_scale) if scales else nn.Identity()

    def forward(self, x_BND: Tensor, turn: Rotation | None = None) -> Tensor:
        """Return the tokens after both branches."""
        gathered_BND = self.scale1(self.attention(self.norm1(x_BND), turn))
        x_BND = x_BND + drop_path(gathered_BND, self.drop, training=self.training)
        changed_BND = self.scale2(self.mlp(self.norm2(x_BND)))
        return x_BND + drop_path(changed_BND, self.drop, training=self.training)


def initialise(module: nn.Module, std: float = 0.02) -> None:
    """Draw the weights of linear layers from a truncated normal; biases begin at zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=std)
            nn.init.zeros_(part.bias)


def seen_first(visible_BN: Tensor) -> Tensor:
    """Return the places of the visible tokens of every row, in their order, ``(B, seen)``.

    Raises:
        ValueError: The rows do not see equally many.
    """
    counts = visible_BN.sum(1)
    if (counts != counts[0]).any():
        raise ValueError(
            f"rows see {int(counts.min())} to {int(counts.max())} tokens, but dropping the hidden "
            "ones needs equally many in every row: hide one fixed share, in every view"
        )
    order_BN = visible_BN.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    return order_BN[:, : int(counts[0])]


def pick(x_BND: Tensor, places_BV: Tensor) -> Tensor:
    """Return the tokens at these places of each row, ``(B, V, D)``."""
    return x_BND.gather(1, places_BV[..., None].expand(-1, -1, x_BND.shape[2]))
