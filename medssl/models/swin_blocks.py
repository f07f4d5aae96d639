"""MONAI's Swin transformer with attention that does not compute its padding.

Modules keep MONAI's names, weights and values; only how they are computed changes.
"""

from monai.networks.nets.swin_unetr import BasicLayer, SwinTransformer, SwinTransformerBlock
from torch import Tensor

from medssl.models.window_attention import attend_in_windows


class Block(SwinTransformerBlock):
    """Windowed attention and two linear layers, each beside a shortcut."""

    def forward_part1(self, x: Tensor, mask_matrix: Tensor | None) -> Tensor:
        """Return what attention adds to ``(B, *grid, C)`` tokens."""
        axes = list(zip(x.shape[1:-1], self.window_size, self.shift_size, strict=True))
        window = tuple(min(size, length) for size, length, _ in axes)
        shift = tuple(moved if size > length else 0 for size, length, moved in axes)
        return attend_in_windows(self.norm1(x), self.attn, window, shift)


class Stage(BasicLayer):
    """Blocks at one resolution, and the merging of voxels that follows them."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, *grid)`` to ``(B, 2 C, *grid / 2)``."""
        # Which tokens are apart is part of the layout of windows, so no mask is handed on.
        x = x.movedim(1, -1)
        for block in self.blocks:
            x = block(x, None)
        x = x if self.downsample is None else self.downsample(x)
        return x.movedim(-1, 1)


def without_padding(swin: SwinTransformer) -> SwinTransformer:
    """Turn the stages and blocks of a Swin transformer into those above, in place.

    Raises:
        ValueError: A block drops attention weights or attends in another way.
    """
    for part in swin.modules():
        if type(part) is BasicLayer:
            part.__class__ = Stage
        elif type(part) is SwinTransformerBlock:
            if part.attn.attn_drop.p or part.attn.proj_drop.p:
                raise ValueError("attention without padding has no dropout; set both rates to 0")
            part.__class__ = Block
    return swin
