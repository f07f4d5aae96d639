"""From a volume, or a bag of its slices, to a few numbers: an encoder, a pooling and one layer."""

from typing import Literal

import torch
from torch import Tensor, nn

from medssl.models.encoders.base import Encoder

Pooling = Literal["mean", "max", "attention"]
_VOLUME = 3


class Classifier(nn.Module):
    """An encoder's embedding under one linear layer.

    A 3D encoder sees the volume at once. A 2D encoder sees its axial slices one by one, and their
    embeddings are pooled: a bag of slices (Ilse et al. 2018, arXiv:1802.04712).
    """

    def __init__(
        self, encoder: Encoder, out_channels: int, *, pooling: Pooling, dropout: float = 0.0
    ) -> None:
        """Make the pooling and the layer; the encoder's weights are its own tensors.

        Args:
            encoder: 2D or 3D.
            out_channels: Numbers that come out.
            pooling: Over places of a 3D encoder's coarsest map, or over the slices of a bag.
                ``mean`` over places is the encoder's own embedding.
            dropout: Chance that a feature of the embedding is dropped in training.
        """
        super().__init__()
        self.encoder, self.pooling = encoder, pooling
        bag = encoder.dims < _VOLUME
        width = encoder.embed_dim if bag or pooling == "mean" else encoder.channels[-1]
        self.attention = GatedAttention(width) if pooling == "attention" else None
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, out_channels)

    def forward(self, x_BCIJK: Tensor) -> Tensor:
        """Return logits ``(B, out_channels)`` of volumes ``(B, C, I, J, K)``."""
        return self.classified(self.embedded(x_BCIJK))

    def classified(self, z_BD: Tensor) -> Tensor:
        """Return the logits of embeddings."""
        logits: Tensor = self.head(self.dropout(z_BD))
        return logits

    def embedded(self, x_BCIJK: Tensor) -> Tensor:
        """Return what the layer reads, ``(B, D)``."""
        if self.encoder.dims < _VOLUME:
            slices = x_BCIJK.movedim(-1, 1)  # B, K, C, I, J
            z_ND = self.encoder.embed(slices.flatten(0, 1))
            return self._pooled(z_ND.reshape(*slices.shape[:2], -1))
        if self.pooling == "mean":
            return self.encoder.embed(x_BCIJK)
        coarsest_BCIJK = self.encoder.features(x_BCIJK)[-1]
        return self._pooled(coarsest_BCIJK.flatten(2).movedim(2, 1))

    def _pooled(self, z_BND: Tensor) -> Tensor:
        if self.pooling == "mean":
            return z_BND.mean(1)
        if self.attention is None:
            return z_BND.amax(1)
        weights_BN1: Tensor = self.attention(z_BND)
        return (weights_BN1 * z_BND).sum(1)


class GatedAttention(nn.Module):
    """Weights of the members of a bag (Ilse et al. 2018, equation 9).

    ``a_n = softmax_n(w (tanh(V z_n) * sigmoid(U z_n)))``
    """

    def __init__(self, width: int, hidden: int = 128) -> None:
        super().__init__()
        self.content, self.gate = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, z_BND: Tensor) -> Tensor:
        """Return weights ``(B, N, 1)`` that sum to 1 over N."""
        gated_BNH = torch.tanh(self.content(z_BND)) * torch.sigmoid(self.gate(z_BND))
        return torch.softmax(self.score(gated_BNH), dim=1)
