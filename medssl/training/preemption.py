"""A training that is told to stop: it ends its step, saves, and can go on later as if nothing was.

Slurm sends SIGTERM before it takes a machine away, and the signal of ``--signal=USR1@120`` some
time before a job's time is over. The process then exits with code 75: list it in ``RequeueExit``
of slurm.conf, or set ``engine.requeue``, and the job runs again.
"""

import logging
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from torch import distributed as dist

from medssl.errors import PreemptedError
from medssl.runs.environment import rank
from medssl.runs.processes import world_size
from medssl.training.checkpoint import Checkpoints, step_ended, validation_follows

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_log = logging.getLogger(__name__)


@dataclass
class StopSignals:
    """Whether this process was told to stop."""

    received: bool = False


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Note SIGTERM and SIGUSR1 instead of ending by them, while this is open."""
    signals = StopSignals()

    def note(*_: Any) -> None:
        signals.received = True

    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread
        yield signals
        return
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopWhenTold(lightning.Callback):
    """Ends the training between two steps once any of its processes was told to stop.

    It must stand behind the callback that saves. Processes agree after every step, on the CPU:
    a device's queue is not waited for. A validation that is due is made first.
    """

    def __init__(self, signals: StopSignals, checkpoints: Checkpoints, *, requeue: bool) -> None:
        self.signals, self.checkpoints, self.requeue = signals, checkpoints, requeue
        self._group: Any = None

    def on_train_start(self, *_: Any) -> None:
        """Open a line between the processes that needs no device."""
        if world_size() > 1 and dist.get_backend() != "gloo":
            self._group = dist.new_group(backend="gloo")

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop if told to, unless a validation of this step is to come."""
        if step_ended(trainer, batch_idx) and not validation_follows(trainer, batch_idx):
            self._stop_if_told(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Stop if told to."""
        self._stop_if_told(trainer)

    def _stop_if_told(self, trainer: lightning.Trainer) -> None:
        """Save and raise ``PreemptedError``, unless the last step is done anyway."""
        step = trainer.global_step
        if step == trainer.max_steps or not self._told():
            return
        self.checkpoints.save(trainer)
        self.checkpoints.finish(trainer)
        if self.requeue and rank() == 0:
            _requeue()
        raise PreemptedError(
            f"told to stop: everything up to step {step} is saved",
            hint="to continue where it stopped, run the same command again",
            exit_code=PreemptedError.exit_code if rank() == 0 else 0,
        )

    def _told(self) -> bool:
        if world_size() == 1:
            return self.signals.received
        told = torch.tensor(int(self.signals.received))
        dist.all_reduce(told, op=dist.ReduceOp.MAX, group=self._group)
        return bool(told)


def _requeue() -> None:
    job, scontrol = os.environ.get("SLURM_JOB_ID"), shutil.which("scontrol")
    if job is None or scontrol is None:
        _log.warning("engine.requeue is set, but this is no Slurm job: start it again yourself")
        return
    answer = subprocess.run(  # noqa: S603 - fixed arguments, no shell
        [scontrol, "requeue", job], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        _log.warning("Slurm did not requeue job %s: %s", job, answer.stderr.strip())
