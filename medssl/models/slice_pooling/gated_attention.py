"""Learned weights of the members of a bag."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from medssl.models.classifier import GatedAttention as Weights
from medssl.models.slice_pooling.base import SlicePooling


class GatedAttention(SlicePooling):
    """The mean with weights that the members themselves give (Ilse et al. 2018, arXiv:1802.04712).

    Equation 9; the weights of the members that there are add up to 1.
    """

    class Config(SlicePooling.Config):
        hidden: Annotated[int, Field(gt=0)] = 128
        """Features that a weight is made of."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__(config, width)
        self.weights = Weights(width, config.hidden)

    def pooled(self, e_BSD: Tensor, mask_BS: Tensor, position_mm_BS: Tensor | None) -> Tensor:
        # Padding is 0, so its weight is bounded and can be taken out of the sum without loss.
        weight_BS1: Tensor = self.weights(e_BSD) * mask_BS[..., None]
        return (weight_BS1 * e_BSD).sum(1) / weight_BS1.sum(1)
