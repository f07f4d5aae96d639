"""The largest value of each feature in a bag."""

import torch
from torch import Tensor

from medssl.models.slice_pooling.base import SlicePooling


class Max(SlicePooling):
    """A finding that one image shows is not thinned by those that do not show it."""

    class Config(SlicePooling.Config):
        pass

    def pooled(self, e_BSD: Tensor, mask_BS: Tensor, position_mm_BS: Tensor | None) -> Tensor:
        return e_BSD.masked_fill(~mask_BS[..., None], -torch.inf).amax(1)
