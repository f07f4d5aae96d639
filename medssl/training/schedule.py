"""How long to train, and the learning rate on the way."""

import math
from typing import Annotated, Any, Self

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from medssl.config.base import Config

_WARMUP_SHARE = 20
"""Without a word about it, a twentieth of the samples warms up, as of the steps."""


class ScheduleConfig(Config):
    """Linear warm-up, then half a cosine down to zero; counted in steps or in samples."""

    steps: Annotated[int, Field(gt=0)] = 1000
    """Optimiser steps in all."""
    samples: Annotated[int, Field(gt=0)] | None = None
    """Samples seen in all, instead of `steps`: a batch of another size then sees as many."""
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    """Steps over which the learning rate rises to its peak."""
    warmup_samples: Annotated[int, Field(ge=0)] | None = None
    """The same counted in samples, instead of `warmup_steps`; a twentieth of `samples` if neither
    is set."""

    @model_validator(mode="after")
    def _counted_once(self) -> Self:
        for name in ("steps", "warmup_steps"):
            samples = name.replace("steps", "samples")
            if getattr(self, samples) is not None and self._given(name):
                raise ValueError(f"set {name} or {samples}, not both")
        if self.samples is None and self.warmup_samples is None:
            _check(self.warmup_steps, self.steps, "steps")
        elif self.samples is not None and self.warmup_samples is not None:
            _check(self.warmup_samples, self.samples, "samples")
        return self

    def _given(self, name: str) -> bool:
        return name in self.model_fields_set

    @model_serializer(mode="wrap")
    def _as_counted(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out steps that nobody set where samples count, so that the same is read back."""
        tree: dict[str, Any] = whole(self)
        counted = {"steps": self.samples, "warmup_steps": self.samples or self.warmup_samples}
        return {
            key: value
            for key, value in tree.items()
            if self._given(key) or counted.get(key) is None
        }

    def in_steps(self, samples_per_step: int) -> "ScheduleConfig":
        """Return the same schedule counted in steps of ``samples_per_step`` samples.

        Raises:
            ValueError: Fewer samples than warm up are left.
        """
        if self.samples is None and self.warmup_samples is None:
            return self
        steps, warmup = self.steps, self.warmup_steps
        if self.samples is not None:
            steps = math.ceil(self.samples / samples_per_step)
            warmup = self.warmup_steps if self._given("warmup_steps") else steps // _WARMUP_SHARE
        if self.warmup_samples is not None:
            warmup = self.warmup_samples // samples_per_step
        return ScheduleConfig(steps=steps, warmup_steps=warmup)

    def factor(self, step: int) -> float:
        """Return the share of the peak learning rate that ``step`` (from 0) is taken with."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def build(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """Return the scheduler that applies :meth:`factor`, to be stepped once per step."""
        return torch.optim.lr_scheduler.LambdaLR(optimizer, self.factor)


def _check(warmup: int, whole: int, unit: str) -> None:
    if warmup >= whole:
        raise ValueError(f"warmup_{unit} ({warmup}) must be below {unit} ({whole})")
