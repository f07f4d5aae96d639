"""Every weight trains, from the first step to the last."""

from medssl.training.strategies.base import Strategy


class Full(Strategy):
    """Plain fine-tuning; ``optimizer.layer_decay`` can slow early stages down."""

    class Config(Strategy.Config):
        pass
