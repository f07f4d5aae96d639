"""What a training step minimises; what it adds to the network is for training alone."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from medssl.tasks.base import Task

Sample = Mapping[str, Tensor]


class Objective(nn.Module):
    """The task's own loss of what the network returns.

    The network is not a part of it: its weights are trained, saved and exported under its own
    names, and those of an objective are trained beside them and dropped.
    """

    def __init__(self, task: "Task", network: nn.Module) -> None:
        super().__init__()
        self.task, self._network = task, [network]  # in a list: it is no part of this module

    @property
    def network(self) -> nn.Module:
        """The task's network."""
        return self._network[0]

    def forward(self, batch: Sample) -> Tensor:
        """Return the loss of a batch: ``image``, and what the task compares with."""
        return self.task.loss_of(self.network(batch["image"]), batch)
