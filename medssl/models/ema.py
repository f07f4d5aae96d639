"""A slow copy of a network."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Set every teacher parameter to ``momentum * teacher + (1 - momentum) * student``, in place.

    Buffers are copied: they are statistics or constants, not something to average.
    """
    slow: list[Tensor] = list(teacher.parameters())
    fast: list[Tensor] = list(student.parameters())
    torch._foreach_lerp_(slow, fast, 1 - momentum)
    for mine, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
        mine.copy_(theirs)
