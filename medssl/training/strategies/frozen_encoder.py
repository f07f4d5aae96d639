"""The encoder stays as it was pretrained; decoder and head train."""

from typing import ClassVar

from medssl.training.strategies.base import Strategy


class FrozenEncoder(Strategy):
    """What the encoder's features are worth to a decoder of their own.

    A decoder that was pretrained trains on from there.
    """

    class Config(Strategy.Config):
        pass

    trains_encoder: ClassVar[bool] = False
