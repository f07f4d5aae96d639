"""Which optimiser, and how its weights are grouped."""

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from medssl.config.base import Config


class OptimizerConfig(Config):
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay; not applied to biases and normalisation weights."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients longer than this are shortened to it; null for no clipping."""

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of every weight of ``module`` that trains."""
        decayed = [p for p in _trained(module) if p.ndim > 1]
        plain = [p for p in _trained(module) if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=self.lr)


def _trained(module: nn.Module) -> Iterator[nn.Parameter]:
    return (parameter for parameter in module.parameters() if parameter.requires_grad)
