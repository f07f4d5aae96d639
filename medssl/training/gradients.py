"""The gradient of a whole module as one number."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def gradient_norm(module: nn.Module) -> Tensor:
    """Return the Euclidean length of all gradients together, on their device; 0 without any.

    Where weights are sharded over processes, every process must call it, and each gets the length
    of the whole.
    """
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm = torch.nn.utils.get_total_norm(gradients)
    whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return whole
