"""A plain vision transformer for volumes and slices, and a light decoder that segments with it.

After Primus (Wald et al. 2025, arXiv:2503.01835): small patches, rotary positions, gated MLPs,
scaled residual branches; tokens go back to voxels through transposed convolutions only.
"""

import math
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.models.attention import (
    Block,
    BlockSize,
    Rotation,
    grid_positions,
    initialise,
    pick,
    rotation,
    seen_first,
)
from medssl.models.decoders import Decoder
from medssl.models.unet import CONV, INTERPOLATION, TRANSPOSED


class ViTSize(NamedTuple):
    """Everything a :class:`VisionTransformer` is built from."""

    dims: int
    in_channels: int
    patch: int
    width: int
    depth: int
    heads: int
    mlp_ratio: float
    mlp: Literal["swiglu", "gelu"]
    positions: Literal["rotary", "learned", "both"]
    rotary_base: float
    learned_grid: int
    registers: int
    layer_scale: float
    drop_path: float
    qk_norm: bool
    maps: int

    @property
    def blocks(self) -> BlockSize:
        """What its blocks have in common."""
        return BlockSize(
            self.width, self.heads, self.mlp_ratio, self.mlp, self.layer_scale, self.qk_norm
        )


class Patches(nn.Module):
    """One token per patch, with its learned place where there is one, behind the registers."""

    def __init__(self, size: ViTSize) -> None:
        super().__init__()
        dims, width = size.dims, size.width
        self.conv = CONV[dims](size.in_channels, width, size.patch, size.patch)
        self.mask_token = _small(width)
        self.registers = _small(size.registers, width) if size.registers else None
        learned = size.positions != "rotary"
        self.places = _small(1, width, *[size.learned_grid] * dims) if learned else None
        # As a linear layer of all voxels of a patch, not as a convolution of few channels.
        nn.init.xavier_uniform_(self.conv.weight.data.view(width, -1))
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x_BCIJK: Tensor, visible_BN: Tensor | None) -> Tensor:
        """Return the registers and then the tokens in raster order, ``(B, registers + N, D)``."""
        map_BDIJK = self.conv(x_BCIJK)
        x_BND = map_BDIJK.flatten(2).transpose(1, 2)
        if visible_BN is None:  # the mask token takes part in every pass: its gradient is then 0
            visible_BN = x_BND.new_ones(x_BND.shape[:2], dtype=torch.bool)
        x_BND = torch.where(visible_BN[..., None], x_BND, self.mask_token.to(x_BND.dtype))
        if self.places is not None:
            x_BND = x_BND + on_grid(self.places, map_BDIJK.shape[2:]).to(x_BND.dtype)
        if self.registers is not None:
            registers_BRD = self.registers.to(x_BND.dtype).expand(x_BND.shape[0], -1, -1)
            x_BND = torch.cat([registers_BRD, x_BND], dim=1)
        return x_BND


def _small(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02))


def on_grid(places_1DIJK: Tensor, grid: torch.Size) -> Tensor:
    """Return a table of learned places on this grid, resized linearly, ``(1, N, D)``."""
    if places_1DIJK.shape[2:] != grid:
        places_1DIJK = F.interpolate(places_1DIJK, tuple(grid), mode=INTERPOLATION[len(grid)])
    return places_1DIJK.flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Tokens of equal patches through equal blocks; returns maps of several depths.

    All maps have the grid of the tokens; they are normed, the last one by learned weights.
    """

    def __init__(self, size: ViTSize) -> None:
        super().__init__()
        self.size = size
        self.patches = Patches(size)
        rates = [size.drop_path * n / max(size.depth - 1, 1) for n in range(size.depth)]
        self.blocks = nn.ModuleList(Block(size.blocks, drop=rate) for rate in rates)
        self.norm = nn.LayerNorm(size.width)
        self.depths = [round(size.depth * (n + 1) / size.maps) for n in range(size.maps)]
        initialise(self.blocks)

    def forward(self, x_BCIJK: Tensor, visible_BN: Tensor | None = None) -> list[Tensor]:
        """Return the maps, shallow to deep, ``(B, D, I/patch, ...)``.

        Args:
            x_BCIJK: The input; its size is a multiple of the patch.
            visible_BN: Which tokens show their patch; the others are the mask token.
        """
        grid = patch_grid(x_BCIJK, self.size.patch)
        x_BND = self.patches(x_BCIJK, visible_BN)
        turn = self._turn(grid, x_BND.device)
        maps = []
        for depth, block in enumerate(self.blocks, start=1):
            x_BND = block(x_BND, turn)
            if depth in self.depths:
                last = depth == self.size.depth
                normed = self.norm(x_BND) if last else F.layer_norm(x_BND, x_BND.shape[2:])
                tokens_BND = normed[:, self.size.registers :]
                maps.append(tokens_BND.transpose(1, 2).unflatten(2, grid))
        return maps

    def visible_tokens(self, x_BCIJK: Tensor, visible_BN: Tensor) -> Tensor:
        """Return the last normed tokens of what is visible, ``(B, seen, D)``, in raster order.

        What is hidden is dropped before the first block, so it costs nothing.

        Raises:
            ValueError: The rows do not see equally many tokens.
        """
        registers = self.size.registers
        grid = patch_grid(x_BCIJK, self.size.patch)
        x_BND, places_BV = self.patches(x_BCIJK, visible_BN), seen_first(visible_BN)
        x_BND = torch.cat([x_BND[:, :registers], pick(x_BND[:, registers:], places_BV)], dim=1)
        turn = self._turn(grid, x_BND.device)
        if turn is not None:
            turn = at_places(turn, places_BV, registers)
        for block in self.blocks:
            x_BND = block(x_BND, turn)
        seen_BVD: Tensor = self.norm(x_BND)[:, registers:]
        return seen_BVD

    def _turn(self, grid: tuple[int, ...], device: torch.device) -> Rotation | None:
        """Return the rotation of the registers, which are not turned, and of all tokens."""
        if self.size.positions == "learned":
            return None
        head_dim = self.size.width // self.size.heads
        turn = rotation(grid_positions(grid, device), head_dim, self.size.rotary_base)
        still = (0, 0, self.size.registers, 0)
        return Rotation(F.pad(turn.cos, still, value=1.0), F.pad(turn.sin, still))


def patch_grid(x_BCIJK: Tensor, patch: int) -> tuple[int, ...]:
    """Return how many patches the input has along each axis.

    Raises:
        ValueError: It is not a whole number.
    """
    shape = tuple(x_BCIJK.shape[2:])
    if any(size % patch for size in shape):
        raise ValueError(f"an input of {shape} voxels does not divide into patches of {patch}")
    return tuple(size // patch for size in shape)


def at_places(turn: Rotation, places_BV: Tensor, registers: int = 0) -> Rotation:
    """Return the rotation of the registers and of the tokens at these places of each row."""
    first_BR = torch.arange(registers, device=places_BV.device).expand(len(places_BV), -1)
    rows_BX = torch.cat([first_BR, places_BV + registers], dim=1)
    return Rotation(turn.cos[rows_BX][:, None], turn.sin[rows_BX][:, None])


class TransposedDecoder(Decoder):
    """From the last map alone to the input's grid: transposed convolution, norm, GELU, repeated.

    Channels fall by one factor from step to step, to ``out_channels`` on the input's grid.

    Args:
        dims: 2 or 3.
        width: Channels of the map.
        patch: Its stride, a power of two: one step for each halving.
        out_channels: Channels on the grid of the input.
    """

    def __init__(self, dims: int, width: int, patch: int, out_channels: int) -> None:
        super().__init__()
        steps = int(math.log2(patch))
        fall = (out_channels / width) ** (1 / steps)
        widths = [round(width * fall**step) for step in range(steps)] + [out_channels]
        self.channels = tuple(widths[1:])
        self.steps = nn.ModuleList(
            nn.Sequential(TRANSPOSED[dims](a, b, 2, 2), nn.GroupNorm(1, b), nn.GELU())
            for a, b in pairwise(widths)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        x, maps = features[-1], []
        for step in self.steps:
            x = step(x)
            maps.append(x)
        return maps


class ViTSegmenter(nn.Module):
    """Vision transformer, transposed convolutions and a 1x1 convolution to ``out_channels``.

    Args:
        out_channels: Classes.
        decoder_channels: Channels of the decoder on the input's grid.
        size: The fields of :class:`ViTSize`.
    """

    def __init__(self, *, out_channels: int, decoder_channels: int, **size: Any) -> None:
        super().__init__()
        sizes = ViTSize(**size)
        dims = sizes.dims
        self.encoder = VisionTransformer(sizes)
        self.decoder = TransposedDecoder(dims, sizes.width, sizes.patch, decoder_channels)
        self.head = CONV[dims](decoder_channels, out_channels, 1)

    def forward(self, x_BCIJK: Tensor) -> Tensor:
        """Return logits on the input's grid."""
        y: Tensor = self.head(self.decoder(self.encoder(x_BCIJK))[-1])
        return y
