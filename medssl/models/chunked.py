"""A large batch through a network in chunks, with the memory of one chunk and the exact gradient.

A contrastive loss needs the embeddings of the whole batch at once, but not what the network
remembers of each row for its gradient. Every chunk is computed once to get its embeddings and
once more, when its gradient is asked for (GradCache, Gao et al. 2021, arXiv:2101.06983). Unlike
gradients that are accumulated over small batches, which see few negatives, this is the gradient of
the whole batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from medssl.errors import ConfigError


def in_chunks(network: Callable[..., Tensor], *inputs: Tensor, chunk_rows: int | None) -> Tensor:
    """Return ``network(*inputs)``, computed a few rows at a time.

    Random numbers, such as dropout's, are the same in both computations of a chunk. Rows must not
    depend on each other in the network: see :func:`check_rows_apart`.

    Args:
        network: Whose output has a row per row of the inputs.
        inputs: Tensors of equally many rows.
        chunk_rows: Rows of a chunk; the last one may have fewer. None for all at once.
    """
    if chunk_rows is None or len(inputs[0]) <= chunk_rows:
        return network(*inputs)
    chunks = zip(*(torch.split(x, chunk_rows) for x in inputs), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([network(*chunk) for chunk in chunks])
    return torch.cat([checkpoint(network, *chunk, use_reentrant=False) for chunk in chunks])


def check_rows_apart(network: nn.Module, setting: str) -> None:
    """Raise ConfigError, naming ``setting``, where rows of a batch depend on each other."""
    if any(isinstance(part, _BatchNorm) for part in network.modules()):
        raise ConfigError(
            f"{setting} takes a few rows at a time, and batch normalisation in the network would "
            "normalise those alone",
            hint="leave it out, or normalise otherwise, such as encoder.norm=instance",
        )
