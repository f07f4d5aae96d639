"""The mean of a bag."""

from torch import Tensor

from medssl.models.slice_pooling.base import SlicePooling, masked_mean


class Mean(SlicePooling):
    """Every member counts the same."""

    class Config(SlicePooling.Config):
        pass

    def pooled(self, e_BSD: Tensor, mask_BS: Tensor, position_mm_BS: Tensor | None) -> Tensor:
        return masked_mean(e_BSD, mask_BS)
