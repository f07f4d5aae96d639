"""A training that learns nothing, and one whose numbers are no longer numbers."""

import logging
from collections import defaultdict, deque
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple, cast

import lightning
import torch
from torch import Tensor

from medssl.data.views import Batch
from medssl.errors import TrainingError
from medssl.runs.environment import rank
from medssl.runs.manifest import Manifest
from medssl.training.collapse import CollapseConfig
from medssl.training.gradients import gradient_norm
from medssl.training.module import PretrainModule
from medssl.training.offending import TENSORS, Offence, save_offence

log = logging.getLogger(__name__)


class ConstantLossAlarm(lightning.Callback):
    """Warns when a part of the loss stays where an encoder blind to its input would bring it.

    Each such bound is logged beside its part, as ``<part>_constant``.
    """

    def __init__(
        self, config: CollapseConfig, *, every_steps: int, warmup_steps: int, resumed_at: int = 0
    ) -> None:
        self.config, self.every_steps, self.warmup_steps = config, every_steps, warmup_steps
        looks = max(1, config.patience_steps // every_steps)
        self._losses: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=looks))
        self._bounds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=looks))
        self._looked_at = resumed_at
        self.raised: set[str] = set()
        """The parts that sit at their bound now."""

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        *_: Any,
    ) -> None:
        """Compare every few steps; judged over several looks."""
        step, module = trainer.global_step, cast(PretrainModule, pl_module)
        if step == self._looked_at or step % self.every_steps:
            return
        self._looked_at = step
        bounds = module.method.constant_loss(batch)
        module.log_dict({f"{part}_constant": bound for part, bound in bounds.items()})
        if step <= self.warmup_steps:
            return
        for part, bound in bounds.items():
            self._losses[part].append(float(trainer.callback_metrics[part]))
            self._bounds[part].append(bound)
            if len(self._losses[part]) == self._losses[part].maxlen:
                self._judge(step, part)

    def _judge(self, step: int, part: str) -> None:
        loss, bound = fmean(self._losses[part]), fmean(self._bounds[part])
        if abs(loss - bound) > self.config.loss_tolerance * abs(bound):
            self.raised.discard(part)
        elif part not in self.raised:
            self.raised.add(part)
            advice = (
                "Look at crops.png, then change the learning rate or make the views easier"
                if bound
                else "Batches hold nothing to compare: take more volumes at once or smaller crops"
            )
            log.warning(
                "step %d: the loss part %s stays at %.4f; an encoder blind to its input reaches "
                "%.4f, so nothing is being learned. %s.", step, part, loss, bound, advice,
            )  # fmt: skip


class _Look(NamedTuple):
    """A check that is under way on the device."""

    what: Literal["loss", "gradient"]
    finite: Tensor
    """On the host; to be read once ``copied``."""
    copied: torch.cuda.Event | None
    batch: Batch
    batch_index: int
    step: int


class NonFiniteAlarm(lightning.Callback):
    """Stops a training whose loss or gradient is not a number, and keeps the batch.

    On the CPU it stops before the step is taken. On a GPU nothing waits for the device: a check
    is read one batch later, or when a checkpoint is asked for, so that none is ever written with
    broken weights. With loss scaling (16-mixed) gradients are not looked at: there
    infinite ones are common, and their step is left out.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._looks: deque[_Look] = deque()
        self._at: tuple[Batch, int] | None = None

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Note which batch is at work."""
        self._at = (batch, batch_idx)

    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        """Check the loss."""
        self._look("loss", loss, trainer, pl_module)

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        """Check the gradient, unless it comes from a scaled loss."""
        if trainer.precision != "16-mixed":
            self._look("gradient", gradient_norm(pl_module), trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        """Read every check before the state is saved."""
        self._read(pl_module, left=0)

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Read what is left."""
        self._read(pl_module, left=0)

    def _look(
        self,
        what: Literal["loss", "gradient"],
        number: Tensor,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
    ) -> None:
        if self._at is None:
            return
        finite, copied = number.detach().isfinite(), None
        if finite.is_cuda:
            host = torch.empty((), dtype=torch.bool, pin_memory=True)
            finite = host.copy_(finite, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
        self._looks.append(_Look(what, finite, copied, *self._at, trainer.global_step))
        self._read(pl_module, left=0 if copied is None else 2)  # a batch's loss and gradient

    def _read(self, pl_module: lightning.LightningModule, *, left: int) -> None:
        while len(self._looks) > left:
            look = self._looks.popleft()
            if look.copied is not None:
                look.copied.synchronize()
            if not look.finite:
                self._stop(look, cast(PretrainModule, pl_module))

    def _stop(self, look: _Look, module: PretrainModule) -> None:
        manifest = Manifest.read(self.run)
        offence = Offence(
            what=look.what,
            step=look.step,
            batch_index=look.batch_index,
            progress=look.step / module.schedule.steps,
            seed=module.seed,
            process=rank(),
            config_digest=manifest.config_digest if manifest else "",
        )
        folder = save_offence(self.run, offence, look.batch)
        raise TrainingError(
            f"step {look.step + 1}: the {look.what} is not a finite number. The batch is kept in "
            f"{folder / TENSORS}",
            hint=f"medssl replay {self.run}  shows where the first such value appears",
        )
