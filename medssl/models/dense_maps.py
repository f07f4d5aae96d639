"""Which of a network's maps a dense objective looks at."""

from typing import Literal

from torch import Tensor, nn

from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder


class DenseMap(nn.Module):
    """One map, of the encoder or of a fresh decoder behind it.

    Args:
        encoder: Its maps are what is read.
        source: Whose map.
        levels: The how-many-eth map from the coarsest; None for the finest.

    Raises:
        ValueError: There are fewer maps than ``levels``.
    """

    def __init__(
        self, encoder: Encoder, source: Literal["decoder", "encoder"], levels: int | None
    ) -> None:
        super().__init__()
        self.decoder: Decoder | None = encoder.decoder() if source == "decoder" else None
        channels = encoder.channels[::-1] if self.decoder is None else self.decoder.channels
        self.levels = levels or len(channels)
        if self.levels > len(channels):
            raise ValueError(
                f"level {levels} of the {source}'s maps is asked for, and it has {len(channels)}: "
                "give a smaller number, or null for the finest"
            )
        self.channels = channels[self.levels - 1]

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return the map ``(B, channels, ...)`` from what ``Encoder.features`` returns."""
        if self.decoder is None:
            return features[-self.levels]
        return self.decoder.first_maps(features, self.levels)[-1]
