"""From the features of a partly hidden input back to all of its voxels."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from medssl.models.attention import (
    Block,
    BlockSize,
    grid_positions,
    initialise,
    rotation,
    seen_first,
)
from medssl.models.encoders.base import Encoder, upsampled


class StageMask:
    """Lets what is hidden be 0 again after every stage of a convolutional encoder, when told to.

    So the mask does not fade from stage to stage, and no feature describes a hidden place: what
    sparse convolutions do (SparK, Tian et al. 2023, arXiv:2301.03580), stage by stage. Inside a
    stage, convolutions and statistics remain dense.

    The hooks are set once and idle between uses: compiled stages do not notice hooks that come
    and go.

    Args:
        encoder: One whose stages return maps.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._visible_BIJK: Tensor | None = None
        for stage in encoder.stages():
            stage.register_forward_hook(self._hide)

    @contextmanager
    def hiding(self, visible_BIJK: Tensor) -> Iterator[None]:
        """Hide what is not visible as long as the context lasts.

        Args:
            visible_BIJK: Boolean, on a grid that divides that of every map.
        """
        self._visible_BIJK = visible_BIJK
        try:
            yield
        finally:
            self._visible_BIJK = None

    def _hide(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        visible_BIJK = self._visible_BIJK
        return output if visible_BIJK is None else output * upsampled(visible_BIJK, output)


class MaskTokens(nn.Module):
    """A learned vector per map, to stand where a map has nothing to say.

    Args:
        channels: Of each map.
        dims: 2 or 3.
    """

    def __init__(self, channels: tuple[int, ...], dims: int) -> None:
        super().__init__()
        self.tokens = nn.ParameterList(
            nn.init.trunc_normal_(torch.empty(1, count, *[1] * dims), std=0.02)
            for count in channels
        )

    def forward(self, features: list[Tensor], visible_BIJK: Tensor) -> list[Tensor]:
        """Return the maps with the tokens in their hidden places."""
        filled = []
        for level, token in zip(features, self.tokens, strict=True):
            visible = upsampled(visible_BIJK, level)
            filled.append(level * visible + token.to(level.dtype) * (1 - visible))
        return filled


class TokenReconstruction(nn.Module):
    """A light transformer over seen tokens and mask tokens (MAE, arXiv:2111.06377).

    Args:
        in_width: Features of the encoder's tokens.
        patch: Side of what a token stands for, in voxels.
        dims: 2 or 3.
        depth: Blocks.
        size: What the blocks have in common; places are told by rotary positions.
        rotary_base: Of their frequencies.
    """

    def __init__(
        self,
        in_width: int,
        patch: int,
        dims: int,
        *,
        depth: int,
        size: BlockSize,
        rotary_base: float,
    ) -> None:
        super().__init__()
        self.patch, self.size, self.rotary_base = patch, size, rotary_base
        self.embed = nn.Linear(in_width, size.width)
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(size.width), std=0.02))
        self.blocks = nn.ModuleList(Block(size) for _ in range(depth))
        self.norm = nn.LayerNorm(size.width)
        self.out = nn.Linear(size.width, patch**dims)
        initialise(self)

    def forward(self, seen_BVD: Tensor, visible_BN: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Return one channel on the input's grid, ``(B, 1, I, J, K)``.

        Args:
            seen_BVD: The encoder's tokens of what is visible, in raster order.
            visible_BN: Which of all tokens these are.
            grid: Tokens along each axis.
        """
        seen_BVD = self.embed(seen_BVD)
        places_BVD = seen_first(visible_BN)[..., None].expand(-1, -1, seen_BVD.shape[2])
        x_BND = self.mask_token.to(seen_BVD.dtype).expand(*visible_BN.shape, -1)
        x_BND = x_BND.scatter(1, places_BVD, seen_BVD)
        head_dim = self.size.width // self.size.heads
        turn = rotation(grid_positions(grid, x_BND.device), head_dim, self.rotary_base)
        for block in self.blocks:
            x_BND = block(x_BND, turn)
        return voxels_of(self.out(self.norm(x_BND)), grid, self.patch)


def voxels_of(patches_BNV: Tensor, grid: tuple[int, ...], patch: int) -> Tensor:
    """Return the volume, or slice, whose patches of voxels these are, with a channel axis."""
    dims = len(grid)
    split = patches_BNV.reshape(len(patches_BNV), *grid, *[patch] * dims)
    order = [axis for n in range(dims) for axis in (1 + n, 1 + dims + n)]
    return split.permute(0, *order).reshape(-1, 1, *(n * patch for n in grid))
