"""Several processes that train together: how many, sums over all of them, one that decides."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")


def world_size() -> int:
    """Return how many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_processes(x: Tensor) -> Tensor:
    """Return the sum of ``x`` over all processes; ``x`` itself when alone.

    Its gradient is the sum of all processes' gradients: where each goes on to its share of one
    loss, every process gets the gradient of the whole.

    Args:
        x: Of one shape in every process; with or without gradient.
    """
    if world_size() == 1:
        return x
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def decided_by_first(decide: Callable[[], T]) -> T:
    """Return what ``decide`` returns in the first process, in all of them; call it there alone."""
    if world_size() == 1:
        return decide()
    decided = [decide() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(decided)
    return decided[0]  # type: ignore[return-value]
