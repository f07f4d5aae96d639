"""The Lightning side of a task: steps, validation, and which weights are kept."""

import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from medssl.errors import TrainingError
from medssl.models.encoders.base import Encoder
from medssl.models.short_axes import lengthen_short_axes
from medssl.runs.folder import atomic_path
from medssl.runs.tracking import Tracker
from medssl.tasks._objective import Objective
from medssl.tasks.base import Task
from medssl.training.checkpoint import checkpoints, steps_of
from medssl.training.engine import seed_batch
from medssl.training.finetune_config import FinetuneConfig
from medssl.training.patches import Patch
from medssl.training.scoring import UNMEASURED, score
from medssl.training.stages import (
    checkpoint_stages,
    compile_stages,
    keep_channels_last,
    memory_format,
)
from medssl.training.strategies.base import Strategy

_log = logging.getLogger(__name__)


class SupervisedModule(lightning.LightningModule):
    """Runs a task's network and loss; every step is seeded by its number alone.

    A training that diverged is stopped: on the CPU before the step is taken, on a GPU, which
    nothing waits for, when numbers are recorded, scored or saved.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        encoder: Encoder,
        strategy: Strategy,
        objective: Objective,
        config: FinetuneConfig,
    ) -> None:
        """Adapt the network as the strategy says.

        Args:
            network: The task's.
            task: What it learns.
            encoder: The one inside it.
            strategy: What of it trains.
            objective: What is minimised.
            config: With a schedule counted in steps.
        """
        super().__init__()
        self.network, self.task, self.strategy, self.config = network, task, strategy, config
        self.objective = objective
        self._finite: list[tuple[int, Tensor]] = []  # by step: whether losses are; not yet read
        self._encoder = [encoder]  # in a list: its weights are the network's, named there
        strategy.prepare(network, encoder, seed=config.seed)
        if config.engine.rounds_on_cpu:
            lengthen_short_axes(network)
        if config.engine.channels_last:
            keep_channels_last(self.network)
        if config.engine.checkpoint_activations:
            checkpoint_stages(encoder)
        if config.engine.compile:
            compile_stages(encoder)

    @property
    def encoder(self) -> Encoder:
        """The encoder inside the network."""
        return self._encoder[0]

    def on_train_batch_start(self, batch: Patch, batch_idx: int) -> None:
        """Seed this batch, so that a resumed training draws what an uninterrupted one does."""
        seed_batch(self.config.seed, batch_idx)
        steps = self.config.schedule.steps
        self.strategy.before_step(self.encoder, self.trainer.global_step, steps)

    def training_step(self, batch: Patch, batch_idx: int) -> Tensor:
        x_BCIJK = batch["image"]
        layout = memory_format(x_BCIJK, channels_last=self.config.engine.channels_last)
        x_BCIJK = x_BCIJK.contiguous(memory_format=layout)
        loss: Tensor = self.objective({**batch, "image": x_BCIJK})
        self.log("loss", loss)
        step = self.trainer.global_step + 1
        self._finite.append((step, loss.detach().isfinite().all()))
        if loss.device.type == "cpu" or step % self.config.rhythm.record_steps == 0:
            self._check_losses()
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See that no state is saved that is broken."""
        self.check_finite()

    def check_finite(self) -> None:
        """See whether the losses since the last look, and the weights, are numbers still.

        Raises:
            TrainingError: One is not.
        """
        self._check_losses()
        fine = [weight.detach().isfinite().all() for weight in self.parameters()]
        fine += [~state.isnan().any() for state in self.buffers()]  # one may hold infinity
        if not torch.stack(fine).all():
            raise _diverged(self.trainer.global_step, "a weight of the network")

    def _check_losses(self) -> None:
        looks, self._finite = self._finite, []
        if looks and not torch.stack([fine for _, fine in looks]).all():
            raise _diverged(next(step for step, fine in looks if not fine), "the loss")

    def configure_optimizers(self) -> Any:
        optimizer = self.config.optimizer.build(self, self.encoder)
        factor = partial(self.strategy.factor, schedule=self.config.schedule)
        scheduler = {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def _diverged(step: int, what: str) -> TrainingError:
    return TrainingError(
        f"step {step}: {what} is not a finite number",
        hint="lower optimizer.lr, or set optimizer.clip_norm",
    )


class BestByValidation(lightning.Callback):
    """Scores whole validation volumes every few steps and keeps the weights that did best.

    It must stand before the callback that saves the state to resume from: its record is part of
    that state, so a resumed training repeats exactly what was lost.
    """

    def __init__(
        self,
        folder: Path,
        volumes: Sequence[Patch],
        patients: Sequence[str],
        tracker: Tracker,
        *,
        monitor: str,
        config: FinetuneConfig,
    ) -> None:
        """Remember what is scored.

        Args:
            folder: For the weights that did best.
            volumes: What the scores are of.
            patients: Whose each of them is.
            tracker: Where scores are recorded.
            monitor: The score that decides.
            config: Says how often, in patches of which size, and with how much patience.
        """
        self.folder, self.volumes, self.patients = folder, volumes, patients
        self.tracker, self.monitor, self.patience = tracker, monitor, config.patience
        self.patch_voxels, self.every_steps = config.patch_voxels, config.rhythm.validate_steps
        self.history: list[dict[str, float]] = []

    @property
    def best(self) -> dict[str, float] | None:
        """The row of the best score so far; of equals that of the least loss, then the earliest."""
        return self._best_of(self.history)

    def _best_of(self, rows: Sequence[dict[str, float]]) -> dict[str, float] | None:
        scored = [row for row in rows if not math.isnan(row[self.monitor])]
        return max(scored, key=self._merit, default=None)

    def _merit(self, row: dict[str, float]) -> tuple[float, float]:
        loss = row.get("val/loss", 0.0)
        return row[self.monitor], -math.inf if math.isnan(loss) else -loss

    @property
    def exhausted(self) -> bool:
        """Whether patience is at an end."""
        if self.patience is None or self.best is None:
            return False
        return len(self.history) - 1 - self.history.index(self.best) >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return the record of all validations so far."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the record of an interrupted training."""
        self.history = list(state_dict["history"])

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        """Validate when it is time, and after the last step."""
        step, module = trainer.global_step, cast(SupervisedModule, pl_module)
        trainer.should_stop = trainer.should_stop or self.exhausted  # of a resumed training too
        due = step > 0 and (step % self.every_steps == 0 or step == trainer.max_steps)
        if not due or (self.history and self.history[-1]["step"] == step):
            return
        module.check_finite()
        scores = score(
            module.network,
            module.task,
            self.volumes,
            self.patients,
            patch_voxels=self.patch_voxels,
            device=module.device,
        )
        row = {"step": step, **scores}
        self._warn_of_no_score(row, module.task)
        self.history.append(row)
        self.tracker.log_metrics({k: v for k, v in row.items() if k != "step"}, step=step)
        if self.best is row:
            with atomic_path(self._file(row)) as partial:
                partial.write_bytes(save(_weights(module.network)))
            self._drop_older()
        trainer.should_stop = trainer.should_stop or self.exhausted

    def _warn_of_no_score(self, row: dict[str, float], task: Task) -> None:
        """Say once that a validation can measure nothing."""
        if math.isnan(row[self.monitor]) and not any(
            math.isnan(earlier[self.monitor]) for earlier in self.history
        ):
            _log.warning(
                "step %d: the validation part has no %s, since %s. While that is so, the last "
                "weights are kept instead of the best.",
                row["step"], self.monitor.removeprefix("val/"), UNMEASURED[task.kind],
            )  # fmt: skip

    def restore_best(self, network: nn.Module) -> None:
        """Load the kept weights; without a single score the last weights stay."""
        if self.best is not None:
            network.load_state_dict(load_file(self._file(self.best)))

    def _file(self, row: dict[str, float]) -> Path:
        return self.folder / f"best-{int(row['step']):08d}.safetensors"

    def _drop_older(self) -> None:
        # What was the best at a state that may be resumed from stays.
        oldest = min(map(steps_of, checkpoints(self.folder)), default=0)
        then = self._best_of([row for row in self.history if row["step"] <= oldest])
        if then is None:
            return
        needed = self._file(then)
        for path in self.folder.glob("best-*.safetensors"):
            if path.name < needed.name:
                path.unlink()


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
