"""Numbers recorded: what was computed in ``metrics.jsonl``, how fast in ``speed.jsonl``.

Two files, because the first is the same for every run of a configuration, resumed or not, and
the second is never the same twice.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from medssl.data.views import Batch
from medssl.runs.environment import rank
from medssl.runs.folder import write_text
from medssl.runs.tracking import Tracker
from medssl.training.gradients import gradient_norm

METRICS, SPEED = "metrics.jsonl", "speed.jsonl"
_GIB = 2**30


class NumbersFile:
    """Rows of numbers, each with its step, in a file of JSON lines and in the tracker.

    After a crash the file holds steps beyond the checkpoint: they are cut off on resume, so that
    every step stands in it once.
    """

    def __init__(self, path: Path, tracker: Tracker, *, resumed_at: int) -> None:
        self.path, self.tracker = path, tracker
        if path.is_file() and rank() == 0:
            kept = [row for row in read_metrics(path) if row["step"] <= resumed_at]
            write_text(path, "".join(json.dumps(row) + "\n" for row in kept))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add one row; nothing when there are no numbers, or in any process but the first."""
        if not numbers or rank() > 0:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")
        self.tracker.log_metrics(numbers, step=step)


class Recorder(lightning.Callback):
    """Records what was logged, the gradient's length before it is clipped, and the learning rate.

    Every few steps: only there does it wait for the device.
    """

    def __init__(self, path: Path, tracker: Tracker, *, every_steps: int, resumed_at: int) -> None:
        self.file = NumbersFile(path, tracker, resumed_at=resumed_at)
        self.every_steps = every_steps
        self._last_step = resumed_at
        self._gradient_norm: Tensor | None = None
        self._lr = float("nan")

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        """Measure the gradient of a step that will be recorded, and note its learning rate.

        When the batch has ended the rate is already that of the next step.
        """
        if self._due(trainer, trainer.global_step + 1):
            self._gradient_norm = gradient_norm(pl_module)
            self._lr = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Record the training numbers of this step, every few steps."""
        step = trainer.global_step
        if step != self._last_step and self._due(trainer, step):
            self._last_step = step
            numbers = {k: v for k, v in trainer.callback_metrics.items() if not _validation(k)}
            if self._gradient_norm is not None:
                numbers["gradient_norm"] = self._gradient_norm
            self.file.write(step, {**_floats(numbers), "lr": self._lr})

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Record the validation numbers."""
        numbers = {k: v for k, v in trainer.callback_metrics.items() if _validation(k)}
        self.file.write(trainer.global_step, _floats(numbers))

    def _due(self, trainer: lightning.Trainer, step: int) -> bool:
        return step % self.every_steps == 0 or step == trainer.max_steps


class SpeedRecorder(lightning.Callback):
    """Records crops per second, the share of time spent waiting for data, and GPU memory.

    It must be the last callback: what the others do is not waiting. Neither validation counts nor
    what comes before the first batch. A GPU may still be busy while the next batch is waited for,
    so its share is an upper bound of the time it stands still.
    """

    def __init__(self, path: Path, tracker: Tracker, *, every_steps: int, resumed_at: int) -> None:
        self.file = NumbersFile(path, tracker, resumed_at=resumed_at)
        self.every_steps = every_steps
        self._last_step = resumed_at
        self._left_s: float | None = None
        self._start_window()

    def on_train_batch_start(self, *_: Any) -> None:
        """Add the time since the step before to what was waited; starting does not count."""
        now_s = time.perf_counter()
        self._waiting_s += now_s - (self._left_s or now_s)
        self._left_s = now_s

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        *_: Any,
    ) -> None:
        """Add this batch; record every few steps."""
        now_s = time.perf_counter()
        self._working_s += now_s - (self._left_s or now_s)
        self._left_s = now_s
        self._crops += sum(len(view) for view in batch.views_BCIJK) * trainer.world_size
        step = trainer.global_step
        if step != self._last_step and step % self.every_steps == 0:
            self._record(step, pl_module.device)

    def on_validation_end(self, *_: Any) -> None:
        """Forget the time that passed since the last step."""
        self._left_s = time.perf_counter()

    def _record(self, step: int, device: torch.device) -> None:
        elapsed_s = self._waiting_s + self._working_s
        numbers = {
            "speed/crops_per_s": self._crops / elapsed_s,
            "speed/step_s": elapsed_s / (step - self._last_step),
            "speed/waiting_share": self._waiting_s / elapsed_s,
        }
        if device.type == "cuda":
            numbers["speed/gpu_memory_gib"] = torch.cuda.max_memory_allocated(device) / _GIB
        self.file.write(step, numbers)
        self._last_step = step
        self._start_window()

    def _start_window(self) -> None:
        self._waiting_s, self._working_s, self._crops = 0.0, 0.0, 0


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the rows of a file of JSON lines; a last one cut short by a crash is left out."""
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
