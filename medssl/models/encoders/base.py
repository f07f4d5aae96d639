"""The encoder contract: one network serves dense objectives, global ones and downstream tasks."""

from typing import Any

import torch
from torch import Tensor, nn

from medssl.config.choice import Configurable


class Encoder(Configurable, nn.Module):
    """Maps a batch of volumes to a feature pyramid and to one embedding per volume."""

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
        """Return ``(B, embed_dim)``: the mean of every map over space, concatenated."""
        return torch.cat([level.mean((2, 3, 4)) for level in self.features(x_BCIJK)], dim=1)

    def segmenter(self, out_channels: int) -> tuple[nn.Module, dict[str, Any]]:
        """Return the MONAI network whose ``encoder`` is this one, and how MONAI builds it.

        The definition is a ``{"_target_": ..., **arguments}`` mapping as MONAI bundles hold it;
        the decoder's weights are fresh, the encoder's are this encoder's own tensors.
        """
        raise NotImplementedError
