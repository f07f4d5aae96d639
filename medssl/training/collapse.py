"""Embeddings that became too alike to be of use, noticed while there is time to stop."""

import logging
import math
from collections import deque
from statistics import fmean
from typing import Annotated, Any

import lightning
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from medssl.config.base import Config

log = logging.getLogger(__name__)


class CollapseConfig(Config):
    """When embeddings are too alike to be of use."""

    min_effective_rank: Annotated[float, Field(ge=1)] = 2.0
    """Fewer directions than this carry the embeddings: alarm."""
    min_std_ratio: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Spread of unit embeddings, as a share of that of a uniform sphere, below which: alarm."""
    loss_tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """How near to what an encoder blind to its input reaches, as a share of it, a part of the
    loss may stay after the warm-up: nearer is an alarm."""
    patience_steps: Annotated[int, Field(gt=0)] = 50
    """Steps whose mean is judged, so that one odd batch raises no alarm."""


class CollapseAlarm(lightning.Callback):
    """Watches the projections of a method and warns, once per episode, when they collapse."""

    def __init__(self, config: CollapseConfig, *, every_steps: int, resumed_at: int = 0) -> None:
        self.config, self.every_steps = config, every_steps
        looks = max(1, config.patience_steps // every_steps)
        self._ranks: deque[float] = deque(maxlen=looks)
        self._spreads: deque[float] = deque(maxlen=looks)
        self._looked_at = resumed_at
        self.raised = False

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        """Measure every few steps; both numbers are logged, and judged over several looks."""
        z_ND, step = getattr(pl_module, "last_z_ND", None), trainer.global_step
        if z_ND is None or step == self._looked_at or step % self.every_steps:
            return
        self._looked_at = step  # several batches per step under accumulation
        if not z_ND.isfinite().all():  # the alarm of such numbers comes a batch later on a GPU
            return
        rank, spread = effective_rank(z_ND), std_ratio(z_ND)
        pl_module.log_dict({"collapse/effective_rank": rank, "collapse/std_ratio": spread})
        self._ranks.append(rank)
        self._spreads.append(spread)
        if len(self._ranks) == self._ranks.maxlen:
            self._judge(step)

    def _judge(self, step: int) -> None:
        rank, spread = fmean(self._ranks), fmean(self._spreads)
        collapsed = rank < self.config.min_effective_rank or spread < self.config.min_std_ratio
        if collapsed and not self.raised:
            log.warning(
                "step %d: the embedding is collapsing: effective rank %.1f (alarm below %.1f), "
                "spread %.3f of a sphere's (alarm below %.3f). Lower the learning rate, raise the "
                "batch size, or check that the volumes differ.",
                step, rank, self.config.min_effective_rank, spread, self.config.min_std_ratio,
            )  # fmt: skip
        self.raised = collapsed


@torch.no_grad()
def effective_rank(z_ND: Tensor) -> float:
    """Return the effective rank of centred unit rows: exp of the entropy of their spectrum.

    Roy & Vetterli, "The effective rank", EUSIPCO 2007, definition 1: singular values divided by
    their sum are a distribution; 1 when all rows lie on a line, min(N - 1, D) at most.
    """
    z_ND = F.normalize(z_ND.float(), dim=1)
    values = torch.linalg.svdvals(z_ND - z_ND.mean(0))
    shares = values / values.sum().clamp_min(1e-12)
    return float(torch.special.entr(shares).sum().exp())


@torch.no_grad()
def std_ratio(z_ND: Tensor) -> float:
    """Return the mean standard deviation of unit rows over that of a uniform sphere, 1/sqrt(D)."""
    z_ND = F.normalize(z_ND.float(), dim=1)
    return float(z_ND.std(0, correction=0).mean()) * math.sqrt(z_ND.shape[1])
