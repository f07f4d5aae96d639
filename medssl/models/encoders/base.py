"""The encoder contract: one network serves dense objectives, global ones and downstream tasks."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from medssl.config.choice import Configurable
from medssl.errors import ConfigError
from medssl.models.decoders import Decoder


class Encoder(Configurable, nn.Module):
    """Maps a batch of volumes to a feature pyramid and to one embedding per volume.

    With ``dims`` 2 the same holds for slices: inputs and maps have no K axis.
    """

    class Config(Configurable.Config):
        """The options of one encoder."""

        @classmethod
        def tiny(cls) -> Self:
            """Return the smallest network of this kind that is of use, for a first try."""
            return cls()

    dims: int = 3
    """Spatial axes of what it reads: 3 for volumes, 2 for slices."""
    channels: tuple[int, ...]
    """Channels of each map, finest first."""
    strides: tuple[int, ...]
    """Input voxels per voxel of each map, finest first."""

    @property
    def embed_dim(self) -> int:
        """Length of the embedding: every level of the pyramid contributes its channels."""
        return sum(self.channels)

    def features(self, x_BCIJK: Tensor) -> list[Tensor]:
        """Return the maps ``(B, channels[l], I/strides[l], ...)``, finest first."""
        raise NotImplementedError

    def embed(self, x_BCIJK: Tensor) -> Tensor:
        """Return ``(B, embed_dim)``: what :meth:`pool` makes of the maps."""
        return self.pool(self.features(x_BCIJK))

    def pool(self, features: list[Tensor]) -> Tensor:
        """Return ``(B, embed_dim)``: the mean of every map over space, concatenated.

        Objectives that use the maps as well embed with it; an encoder that pools in its own way
        overrides this, not ``embed``.

        Args:
            features: What ``features`` returns.
        """
        return torch.cat([pooled(level) for level in features], dim=1)

    def masked_features(self, x_BCIJK: Tensor, visible_BIJK: Tensor) -> list[Tensor]:
        """Return the maps when only part of the input may be seen; here the rest becomes 0.

        Args:
            x_BCIJK: The whole input.
            visible_BIJK: Boolean, on a coarser grid that divides the input's; true may be seen.
        """
        return self.features(x_BCIJK * upsampled(visible_BIJK, x_BCIJK))

    def stages(self) -> list[nn.Module]:
        """Return its parts from input to output.

        They are what activations are checkpointed by, what weights are sharded by, and the
        layers that layer-wise learning-rate decay counts.
        """
        raise NotImplementedError

    def decoder(self) -> Decoder:
        """Return a fresh decoder for this encoder's maps, such as its ``segmenter`` has."""
        raise NotImplementedError

    def last_layer(self, network: nn.Module) -> nn.Module:
        """Return the part of a ``segmenter`` that makes logits of its decoder's finest map."""
        last: nn.Module = network.head  # type: ignore[assignment]
        return last

    def segmenter(
        self, out_channels: int, decoder: Decoder | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Return the network whose ``encoder`` is this one, and how MONAI builds it.

        The definition is a ``{"_target_": ..., **arguments}`` mapping as MONAI bundles hold it.
        The encoder's weights are this encoder's own tensors.

        Args:
            out_channels: Classes.
            decoder: One of :meth:`decoder`, perhaps trained; without, the network gets a fresh one.
        """
        raise NotImplementedError


def pooled(level: Tensor) -> Tensor:
    """Return the mean of a map over its spatial axes, ``(B, C)``."""
    return level.flatten(2).mean(2)


def upsampled(visible_BIJK: Tensor, like: Tensor) -> Tensor:
    """Return a coarse boolean mask on the grid of ``like``, as 0 and 1, with a channel axis.

    Raises:
        ValueError: The grid of ``like`` is not a whole multiple of the mask's.
    """
    shape, coarse = like.shape[2:], visible_BIJK.shape[1:]
    if any(size % cells for size, cells in zip(shape, coarse, strict=True)):
        raise ValueError(f"a mask of {tuple(coarse)} does not divide a grid of {tuple(shape)}")
    mask = visible_BIJK[:, None].to(like.dtype)
    for axis, (size, cells) in enumerate(zip(shape, coarse, strict=True), start=2):
        mask = mask.repeat_interleave(size // cells, axis)
    return mask


def check_normed_grid(x_BCIJK: Tensor, stride: int) -> None:
    """Explain what normalisation over space would say of a coarsest map of one voxel.

    Args:
        x_BCIJK: What the encoder is given.
        stride: Input voxels per voxel of its coarsest map.

    Raises:
        ConfigError: No axis is longer than ``stride``.
    """
    grid = tuple(x_BCIJK.shape[2:])
    if max(grid) <= stride:
        raise ConfigError(
            f"the encoder was given {grid} voxels, which its coarsest map shows as one voxel, but "
            "that map is normed over space and needs two or more",
            hint=f"choose {2 * stride} voxels or more along an axis of crops and patches, or an "
            "encoder of fewer stages",
        )
