"""The encoder stays as it was pretrained; one linear layer reads its features."""

from typing import ClassVar

from torch import nn

from medssl.errors import ConfigError
from medssl.models.encoders.base import Encoder
from medssl.training.strategies.base import Strategy


class LinearProbe(Strategy):
    """How much of the answer is in the features already, for a linear layer to read.

    For a class per volume the layer reads the embedding; for a class per voxel it reads all maps
    of the pyramid, brought to the grid of the input (``medssl.models.linear_segmenter``). There is
    no decoder: to train the last layer of one that is frozen would measure the decoder, and to
    train it all is ``frozen_encoder``.
    """

    class Config(Strategy.Config):
        pass

    trains_encoder: ClassVar[bool] = False
    without_decoder: ClassVar[bool] = True

    def prepare(self, network: nn.Module, encoder: Encoder, *, seed: int) -> None:
        inside = {id(weight) for weight in encoder.parameters()}
        for name, layer in network.named_modules():
            own = [w for w in layer.parameters(recurse=False) if id(w) not in inside]
            if own and not _is_linear(layer):
                raise ConfigError(
                    f"linear_probe trains one linear layer on a frozen encoder, but {name} "
                    f"({type(layer).__name__}) of this network stands between them",
                    hint="use frozen_encoder to train a decoder on frozen features",
                )
        super().prepare(network, encoder, seed=seed)


def _is_linear(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d | nn.Conv3d):
        return set(layer.kernel_size) == {1}
    return isinstance(layer, nn.Linear)
