"""One batch over several processes: every process computes the loss of the whole of it.

With ``world`` processes a method gathers its projections, and whatever they are compared with,
before the loss; each process then holds the same loss value. Gradients flow into a process's own
rows alone, ``world`` times too large, which is what the averaging of gradients over processes
takes back: what reaches the weights is the gradient of one process with the whole batch.
"""

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


def own_rows(x: Tensor) -> Tensor:
    """Return this process's rows of what :func:`gather_rows` gives; ``x`` itself when alone."""
    if world_size() == 1:
        return x
    return x.chunk(world_size())[dist.get_rank()]


def gather_uneven(x: Tensor) -> Tensor:
    """Return the rows of all processes where each may hold another number of them, even none.

    As :func:`gather_rows`, but the processes first tell each other how many rows they have. With a
    loss that is a mean over the rows of the whole batch, a last batch that does not divide evenly
    gives the value and the gradients that one process would have.

    Args:
        x: ``(rows, ...)``, of one shape but for the rows.
    """
    if world_size() == 1:
        return x
    counts = gather_rows(torch.tensor([len(x)], device=x.device)).tolist()
    most = max(counts)
    padded = torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])])
    parts = gather_rows(padded).view(len(counts), most, *x.shape[1:])
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def from_first(drawn: Tensor) -> Tensor:
    """Return what the first process drew for the whole batch, in every process.

    Each draws from a seed of its own; with the first one's draw all hold the loss that one process
    alone would have.

    Args:
        drawn: Of one shape in every process, without gradient.
    """
    if world_size() > 1:
        drawn = drawn.contiguous()
        dist.broadcast(drawn, 0)
    return drawn


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
