"""What happens around the steps: numbers recorded, progress shown, collapse noticed."""

import json
import logging
import math
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import lightning
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from medssl.config.base import Config
from medssl.runs import progress
from medssl.runs.folder import write_text
from medssl.runs.tracking import Tracker

log = logging.getLogger(__name__)


class Recorder(lightning.Callback):
    """Sends logged numbers to ``metrics.jsonl`` and to the tracker; the former survives a resume.

    After a crash the file holds steps beyond the checkpoint: they are cut off on resume, so that
    every step stands in it once.
    """

    def __init__(self, path: Path, tracker: Tracker, *, every_steps: int, resumed_at: int) -> None:
        self.path, self.tracker, self.every_steps = path, tracker, every_steps
        if path.is_file():
            kept = [row for row in read_metrics(path) if row["step"] <= resumed_at]
            write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._last_step = resumed_at

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Record the training numbers of this step, every few steps."""
        step = trainer.global_step
        if step != self._last_step and (step % self.every_steps == 0 or step == trainer.max_steps):
            self._last_step = step
            numbers = {k: v for k, v in trainer.callback_metrics.items() if not _validation(k)}
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            self._write(step, {**_floats(numbers), "lr": lr})

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Record the validation numbers."""
        numbers = {k: v for k, v in trainer.callback_metrics.items() if _validation(k)}
        self._write(trainer.global_step, _floats(numbers))

    def _write(self, step: int, numbers: dict[str, float]) -> None:
        if not numbers:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")
        self.tracker.log_metrics(numbers, step=step)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the rows of a ``metrics.jsonl``; a last line cut short by a crash is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _validation(name: str) -> bool:
    return name.startswith("val/")


def _floats(numbers: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items()}


class ProgressCallback(lightning.Callback):
    """Shows how far a training is, with its loss."""

    def __init__(self, description: str, *, steps: int, resumed_at: int) -> None:
        self._context = progress.task(description, steps, done=resumed_at)
        self._task: progress.Task | None = None
        self._step = resumed_at

    def on_train_start(self, *_: Any) -> None:
        """Begin the bar."""
        self._task = self._context.__enter__()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Move the bar by the steps just done."""
        done, self._step = trainer.global_step - self._step, trainer.global_step
        if done and self._task is not None:
            loss = trainer.callback_metrics.get("loss")
            self._task.advance(done, note="" if loss is None else f"loss {float(loss):.3f}")

    def on_train_end(self, *_: Any) -> None:
        """End the bar."""
        self._close()

    def on_exception(self, *_: Any) -> None:
        """End the bar where it stands."""
        self._close()

    def _close(self) -> None:
        if self._task is not None:
            self._context.__exit__(None, None, None)
            self._task = None


class CollapseConfig(Config):
    """When embeddings are too alike to be of use."""

    min_effective_rank: Annotated[float, Field(ge=1)] = 2.0
    """Fewer directions than this carry the embeddings: alarm."""
    min_std_ratio: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Spread of unit embeddings, as a share of that of a uniform sphere, below which: alarm."""
    patience_steps: Annotated[int, Field(gt=0)] = 50
    """Steps whose mean is judged, so that one odd batch raises no alarm."""


class CollapseAlarm(lightning.Callback):
    """Watches the projections of a method and warns, once per episode, when they collapse."""

    def __init__(self, config: CollapseConfig, *, every_steps: int) -> None:
        self.config, self.every_steps = config, every_steps
        looks = max(1, config.patience_steps // every_steps)
        self._ranks: deque[float] = deque(maxlen=looks)
        self._spreads: deque[float] = deque(maxlen=looks)
        self.raised = False

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        """Measure every few steps; both numbers are logged, and judged over several looks."""
        z_ND = getattr(pl_module, "last_z_ND", None)
        if z_ND is None or trainer.global_step % self.every_steps:
            return
        rank, spread = effective_rank(z_ND), std_ratio(z_ND)
        pl_module.log_dict({"collapse/effective_rank": rank, "collapse/std_ratio": spread})
        self._ranks.append(rank)
        self._spreads.append(spread)
        if len(self._ranks) == self._ranks.maxlen:
            self._judge(trainer.global_step)

    def _judge(self, step: int) -> None:
        rank, spread = _mean(self._ranks), _mean(self._spreads)
        collapsed = rank < self.config.min_effective_rank or spread < self.config.min_std_ratio
        if collapsed and not self.raised:
            log.warning(
                "step %d: the embedding is collapsing: effective rank %.1f (alarm below %.1f), "
                "spread %.3f of a sphere's (alarm below %.3f). Lower the learning rate, raise the "
                "batch size, or check that the volumes differ.",
                step, rank, self.config.min_effective_rank, spread, self.config.min_std_ratio,
            )  # fmt: skip
        self.raised = collapsed


def _mean(values: deque[float]) -> float:
    return sum(values) / len(values)


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
