"""One batch over several processes: every process computes the loss of the whole of it.

With ``world`` processes a method gathers its projections, and whatever they are compared with,
before the loss; each process then holds the same loss value. Gradients flow into a process's own
rows alone, ``world`` times too large, which is what the averaging of gradients over processes
takes back: what reaches the weights is the gradient of one process with the whole batch.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from medssl.runs.processes import world_size


def gather_rows(x: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of their ranks; ``x`` itself when alone.

    Args:
        x: ``(rows, ...)``, equally many rows in every process; with or without gradient.
    """
    if world_size() == 1:
        return x
    gathered: Tensor = _GatherRows.apply(x)  # type: ignore[no-untyped-call]
    return gathered


def draw_rows(draw: Callable[[int], Tensor], rows: int) -> Tensor:
    """Return this process's part of what one process alone would draw for the whole batch.

    Args:
        draw: Makes as many rows as it is told, on the device of the training; what the first
            process draws holds for all.
        rows: How many this process needs, as many as every other.
    """
    if world_size() == 1:
        return draw(rows)
    drawn = draw(rows * world_size()).contiguous()
    dist.broadcast(drawn, 0)
    return drawn[dist.get_rank() * rows :][:rows]


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        first = dist.get_rank() * ctx.rows
        return grads[0][first : first + ctx.rows] * world_size()
