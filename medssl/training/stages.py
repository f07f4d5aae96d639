"""What is done to an encoder stage by stage: recomputed, compiled, sharded; and memory formats.

Names of weights and buffers never change.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from medssl.models.encoders.base import Encoder

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_VERSIONS = 8
"""Of one compiled stage, at most; torch's own limit holds for all stages of a class together."""
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def keep_channels_last(module: nn.Module) -> None:
    """Keep the kernels of all convolutions in ``module`` with their channels innermost."""
    for layer in module.modules():
        if isinstance(layer, _CONVOLUTIONS):
            layer.to(memory_format=_CHANNELS_LAST[layer.weight.ndim])  # type: ignore[call-overload]


def memory_format(x: Tensor, *, channels_last: bool) -> torch.memory_format:
    """Return the format that convolutions over ``x`` are fast in, by its number of axes."""
    return (
        _CHANNELS_LAST.get(x.ndim, torch.contiguous_format)
        if channels_last
        else torch.contiguous_format
    )


def checkpoint_stages(module: nn.Module) -> None:
    """Let every stage of the encoders in ``module`` forget its activations until the way back.

    They are computed again there (Chen et al. 2016, arXiv:1604.06174): one forward pass more, for
    the memory of a single stage. Random draws are the same both times.
    """
    for stage in _stages(module):
        stage.forward = functools.partial(_recomputed, stage.forward, _running_statistics(stage))


def _recomputed(forward: Callable[..., Any], statistics: Sequence[Tensor], *args: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args)
    options: dict[str, Any] = {}
    if statistics:
        options["context_fn"] = lambda: (nullcontext(), _kept(statistics))
    return checkpoint(forward, *args, use_reentrant=False, **options)


def _running_statistics(stage: nn.Module) -> list[Tensor]:
    """Return what batch normalisations remember of the batches they have seen."""
    norms = [part for part in stage.modules() if isinstance(part, _BatchNorm)]
    return [statistic for norm in norms for statistic in norm.buffers()]


@contextmanager
def _kept(statistics: Sequence[Tensor]) -> Iterator[None]:
    """Leave statistics as they are when the block ends: they have seen this batch already."""
    before = [statistic.clone() for statistic in statistics]
    try:
        yield
    finally:
        for statistic, value in zip(statistics, before, strict=True):
            statistic.data.copy_(value)  # no change that the way back would object to


def compile_stages(module: nn.Module) -> None:
    """Compile every stage of the encoders in ``module``, each on its own at its first use.

    Stages alike share what was compiled, and code between them stays as it is.
    """
    stages = list(_stages(module))
    for stage in stages:
        stage.compile(dynamic=False)  # sizes are few, and code for any size fails in places
    # Stages of one class share their versions: each for training, evaluation and other crops.
    most = _VERSIONS * len(stages)
    torch._dynamo.config.cache_size_limit = max(most, torch._dynamo.config.cache_size_limit)


def shard(method: nn.Module, mesh: DeviceMesh, *, calls: tuple[str, ...]) -> None:
    """Share out weights, gradients and optimiser state over processes (fully sharded, in place).

    Args:
        method: What trains; each stage of an encoder in it is gathered and freed on its own.
        mesh: The processes.
        calls: Methods that run a forward pass, beside ``forward``.
    """
    for stage in _stages(method):
        fully_shard(stage, mesh=mesh)
    fully_shard(method, mesh=mesh)
    for name in calls:
        register_fsdp_forward_method(method, name)


def gathered_state(module: nn.Module) -> dict[str, Any]:
    """Return the state of a sharded module with whole tensors; every process must call it."""
    return {
        name: value.full_tensor() if isinstance(value, DTensor) else value
        for name, value in module.state_dict().items()
    }


def _stages(module: nn.Module) -> Iterator[nn.Module]:
    for encoder in module.modules():
        if isinstance(encoder, Encoder):
            yield from (s for s in encoder.stages() if next(s.parameters(), None) is not None)
