"""The Lightning side of a task: steps, validation, and which weights are kept."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from monai.metrics import DiceMetric
from monai.networks.utils import one_hot
from safetensors.torch import load_file, save
from torch import Tensor, nn

from medssl.data.preprocessing import build
from medssl.models.encoders.base import Encoder
from medssl.runs.folder import atomic_path
from medssl.runs.tracking import Tracker
from medssl.tasks.base import Task
from medssl.training.checkpoint import checkpoints, steps_of
from medssl.training.engine import EngineConfig, seed_batch
from medssl.training.optimizer import OptimizerConfig
from medssl.training.patches import Patch
from medssl.training.schedule import ScheduleConfig
from medssl.training.stages import (
    checkpoint_stages,
    compile_stages,
    keep_channels_last,
    memory_format,
)


class SupervisedModule(lightning.LightningModule):
    """Runs a task's network and loss; every step is seeded by its number alone."""

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        *,
        optimizer: OptimizerConfig,
        schedule: ScheduleConfig,
        engine: EngineConfig,
        seed: int,
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__()
        self.network, self.task = network, task
        self._stages_of = [encoder]  # in a list: its weights are the network's, named there
        self.optimizer, self.schedule, self.engine, self.seed = optimizer, schedule, engine, seed
        if engine.channels_last:
            keep_channels_last(self.network)
        if engine.checkpoint_activations and encoder is not None:
            checkpoint_stages(encoder)
        if engine.compile and encoder is not None:
            compile_stages(encoder)

    def on_train_batch_start(self, batch: Patch, batch_idx: int) -> None:
        """Seed this batch, so that a resumed training draws what an uninterrupted one does."""
        seed_batch(self.seed, batch_idx)

    def training_step(self, batch: Patch, batch_idx: int) -> Tensor:
        x_BCIJK = batch["image"]
        layout = memory_format(x_BCIJK, channels_last=self.engine.channels_last)
        x_BCIJK = x_BCIJK.contiguous(memory_format=layout)
        loss = self.task.loss(self.network(x_BCIJK), batch["label"])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer.build(self.network, *self._stages_of)
        scheduler = {"scheduler": self.schedule.build(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


class BestByValidation(lightning.Callback):
    """Scores whole validation volumes every few steps and keeps the weights that did best.

    It must stand before the callback that saves the state to resume from: its record is part of
    that state, so a resumed training repeats exactly what was lost.
    """

    def __init__(
        self,
        folder: Path,
        volumes: Sequence[Patch],
        tracker: Tracker,
        *,
        patch_voxels: tuple[int, int, int],
        every_steps: int,
    ) -> None:
        self.folder, self.volumes, self.tracker = folder, volumes, tracker
        self.patch_voxels, self.every_steps = patch_voxels, every_steps
        self.history: list[dict[str, float]] = []

    @property
    def best(self) -> dict[str, float] | None:
        """The row of the best score so far; the earlier one of two equals."""
        scored = [row for row in self.history if not math.isnan(row["val/dice"])]
        return max(scored, key=lambda row: row["val/dice"], default=None)

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
        due = step > 0 and (step % self.every_steps == 0 or step == trainer.max_steps)
        if not due or (self.history and self.history[-1]["step"] == step):
            return
        row = {"step": step, **score(module, self.volumes, self.patch_voxels)}
        self.history.append(row)
        self.tracker.log_metrics({k: v for k, v in row.items() if k != "step"}, step=step)
        if self.best is row:
            with atomic_path(self._file(row)) as partial:
                partial.write_bytes(save(_weights(module.network)))
            self._drop_older()

    def restore_best(self, network: nn.Module) -> None:
        """Load the kept weights; without a single score the last weights stay."""
        if self.best is not None:
            network.load_state_dict(load_file(self._file(self.best)))

    def _file(self, row: dict[str, float]) -> Path:
        return self.folder / f"best-{int(row['step']):08d}.safetensors"

    def _drop_older(self) -> None:
        # What was the best at a state that may be resumed from stays.
        oldest = min(map(steps_of, checkpoints(self.folder)), default=0)
        scored = [row for row in self.history if not math.isnan(row["val/dice"])]
        then = [row for row in scored if row["step"] <= oldest]
        if not then:
            return
        needed = self._file(max(then, key=lambda row: row["val/dice"]))
        for path in self.folder.glob("best-*.safetensors"):
            if path.name < needed.name:
                path.unlink()


@torch.no_grad()
def score(
    module: SupervisedModule, volumes: Sequence[Patch], patch_voxels: tuple[int, int, int]
) -> dict[str, float]:
    """Return the mean Dice of every class over ``volumes``, and the mean of the classes.

    Whole volumes on the network's own grid; a volume without a class does not count for it.
    """
    network, task = module.network, module.task
    inferer = build(task.inferer_spec(patch_voxels))
    metric = DiceMetric(include_background=False, reduction="none", ignore_empty=True)
    network.eval()
    for volume in volumes:
        logits_1CIJK = inferer(volume["image"][None].to(module.device), network)
        predicted_1IJK = logits_1CIJK.argmax(1, keepdim=True).cpu()
        metric(
            y_pred=one_hot(predicted_1IJK, task.out_channels),
            y=one_hot(volume["label"][None].long(), task.out_channels),
        )
    network.train()
    by_class = cast(Tensor, metric.aggregate()).double().nanmean(0).tolist()
    numbers = dict(zip((f"val/dice_{name}" for name in task.labels[1:]), by_class, strict=True))
    seen = [value for value in by_class if not math.isnan(value)]
    return {"val/dice": sum(seen) / len(seen) if seen else math.nan, **numbers}


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
