"""What a strategy of adaptation is: which weights of a task's network train, and when."""

from typing import ClassVar

from torch import nn

from medssl.config.choice import Configurable
from medssl.models.encoders.base import Encoder
from medssl.training.schedule import ScheduleConfig


class Strategy(Configurable):
    """Called around a training loop it knows nothing of; this one lets every weight train.

    ``prepare`` once, before the optimiser is built and before anything is compiled; in every step
    ``before_step`` and then the rate that ``factor`` gives; ``finished`` once, when the weights to
    keep are back in the network. Everything is a function of the step alone, so a training that
    goes on from a checkpoint does what an uninterrupted one does.

    A weight that is frozen has no gradient, so no rule, decay or momentum of any optimiser moves
    it. The encoder is the one whose parts the network holds.
    """

    trains_encoder: ClassVar[bool] = True
    """Whether a weight of the encoder, or one added to it, ever trains."""
    without_decoder: ClassVar[bool] = False
    """Whether the network is to be the encoder and one linear layer: see
    ``medssl.models.linear_segmenter`` for dense tasks."""

    def __init__(self, config: Configurable.Config) -> None:
        self.config = config

    def prepare(self, network: nn.Module, encoder: Encoder, *, seed: int) -> None:
        """Freeze weights that never train, and add those that are new; twice is as good as once.

        Args:
            network: The task's network.
            encoder: The encoder inside it.
            seed: Decides the first values of new weights.

        Raises:
            ConfigError: This network cannot be adapted so.
        """
        if not self.trains_encoder:
            encoder.requires_grad_(False)

    def factor(self, step: int, schedule: ScheduleConfig) -> float:
        """Return the share of the peak learning rate that ``step`` (from 0) is taken with.

        Args:
            step: Of the optimiser.
            schedule: What was asked for, counted in steps.
        """
        return schedule.factor(step)

    def before_step(self, encoder: Encoder, step: int, steps: int) -> None:
        """Set what trains in ``step``, and keep what does not as it is at test time.

        A frozen encoder is in evaluation mode: the running state of its norms stays, and nothing
        of it is dropped. Call it before every forward pass of the step, since validation leaves
        the network in training mode.

        Args:
            encoder: The encoder inside the network.
            step: Optimiser steps taken so far.
            steps: In all.
        """
        if not self.trains_encoder:
            encoder.eval()

    def finished(self, network: nn.Module, encoder: Encoder) -> None:
        """Make the network like one that was never prepared, with the weights it has now."""
        network.requires_grad_(True)
