"""The encoder stays as it was pretrained; one linear layer reads its features."""

from typing import ClassVar

from torch import nn

from medssl.errors import ConfigError
from medssl.models.encoders.base import Encoder
from medssl.training.strategies.base import Strategy

_HINT = "use frozen_encoder to train all of it on frozen features; to classify, pool by mean or max"


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
        layers = [
            (name, layer)
            for name, layer in network.named_modules()
            if any(id(weight) not in inside for weight in layer.parameters(recurse=False))
        ]
        for name, layer in layers:
            if not _is_linear(layer):
                raise ConfigError(
                    f"linear_probe trains one linear layer on a frozen encoder, but {name} "
                    f"({type(layer).__name__}) of this network stands between them",
                    hint=_HINT,
                )
        if any(isinstance(layer, nn.Linear) for _, layer in layers) and len(layers) > 1:
            raise ConfigError(
                f"linear_probe trains one linear layer on a frozen encoder, but this network has "
                f"{len(layers)} linear layers above it",
                hint=_HINT,
            )
        super().prepare(network, encoder, seed=seed)


def _is_linear(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d | nn.Conv3d):
        return set(layer.kernel_size) == {1}
    return isinstance(layer, nn.Linear)
