"""What a decoder is: from an encoder's pyramid back to finer maps."""

from torch import Tensor, nn


class Decoder(nn.Module):
    """The part of a segmentation network between its encoder and its last convolution.

    Made by ``Encoder.decoder``; dense objectives may train it, and ``Encoder.segmenter`` takes it.
    """

    channels: tuple[int, ...]
    """Channels of each map, coarsest first."""

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return maps from coarse to fine; the last one has the input's grid.

        Args:
            features: What ``Encoder.features`` returns.
        """
        raise NotImplementedError

    def first_maps(self, features: list[Tensor], count: int) -> list[Tensor]:
        """Return the ``count`` coarsest maps; a decoder that can stop there does."""
        return self(features)[:count]  # type: ignore[no-any-return]
