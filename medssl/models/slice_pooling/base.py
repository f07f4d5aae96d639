"""The contract of a pooling: a bag of embeddings, some of which may be padding, to one.

Suffixes: B bags, S members, D features.
"""

from torch import Tensor, nn

from medssl.config.choice import Configurable
from medssl.errors import ConfigError


class SlicePooling(Configurable, nn.Module):
    """Pools the images of a study, slices or series, or the sentences of a report."""

    class Config(Configurable.Config):
        """The options of one pooling."""

    def __init__(self, config: Config, width: int) -> None:
        """Make the layers.

        Args:
            config: Its options.
            width: D.
        """
        super().__init__()
        self.config, self.width = config, width

    def forward(
        self, e_BSD: Tensor, mask_BS: Tensor, position_mm_BS: Tensor | None = None
    ) -> Tensor:
        """Return one embedding per bag, ``(B, D)``.

        Args:
            e_BSD: Embeddings, any number a bag; what is at padding, even NaN, is not used.
            mask_BS: Whether there is a member; at least one in every bag.
            position_mm_BS: Where the members lie along an axis; None where they have no place.
        """
        return self.pooled(e_BSD.masked_fill(~mask_BS[..., None], 0), mask_BS, position_mm_BS)

    def pooled(self, e_BSD: Tensor, mask_BS: Tensor, position_mm_BS: Tensor | None) -> Tensor:
        """Return what ``forward`` does, of embeddings that are 0 at padding."""
        raise NotImplementedError


def masked_mean(e_BSD: Tensor, mask_BS: Tensor) -> Tensor:
    """Return the mean of the members, ``(B, D)``."""
    weight_BS1 = mask_BS[..., None].to(e_BSD.dtype)
    return (e_BSD * weight_BS1).sum(1) / weight_BS1.sum(1)


def attention_layer(width: int, heads: int) -> nn.MultiheadAttention:
    """Return multi-head attention over members.

    Raises:
        ConfigError: The heads cannot share the width evenly.
    """
    if width % heads:
        fitting = max(n for n in range(1, heads) if width % n == 0)
        raise ConfigError(
            f"{heads} attention heads cannot share {width} features evenly",
            hint=f"set heads to {fitting}",
        )
    return nn.MultiheadAttention(width, heads, batch_first=True)
