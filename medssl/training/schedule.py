"""How long to train, and the learning rate on the way."""

import math
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator

from medssl.config.base import Config


class ScheduleConfig(Config):
    """Linear warm-up, then half a cosine down to zero."""

    steps: Annotated[int, Field(gt=0)] = 1000
    """Optimiser steps in all."""
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    """Steps over which the learning rate rises to its peak."""

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps ({self.warmup_steps}) must be below steps ({self.steps})"
            )
        return self

    def factor(self, step: int) -> float:
        """Return the share of the peak learning rate that ``step`` (from 0) is taken with."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def build(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """Return the scheduler that applies :meth:`factor`, to be stepped once per step."""
        return torch.optim.lr_scheduler.LambdaLR(optimizer, self.factor)
