"""The checkpoints a training resumes from: whole or not there, and never executable.

A step waits for a copy of the state only; a thread writes it. The last few are kept, so that a
damaged one costs the steps since the one before it.
"""

import logging
import shutil
import zipfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities.types import STEP_OUTPUT

from medssl.errors import FolderError, InputError
from medssl.runs.folder import atomic_path

FOLDER = "checkpoints"
"""Where a run keeps them."""
_NAME = "step-{:08d}.ckpt"
_log = logging.getLogger(__name__)


class Resume(NamedTuple):
    """Where a training begins."""

    path: Path | None
    """The checkpoint to load; None to begin anew."""
    steps: int
    """Optimiser steps it holds."""


class BackgroundWriter(CheckpointIO):
    """Copies the state at once and writes the copy on a thread.

    What the writing ran into, such as a full disk, is raised at the next save or wait.

    Args:
        keep: Checkpoints of a folder that stay.
    """

    def __init__(self, *, keep: int) -> None:
        self.keep = keep
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Return as soon as the state is copied and the write before is done."""
        self.wait()
        self._writing = self._thread.submit(_write, _copied(checkpoint), Path(path), self.keep)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the state in ``path``, on the CPU."""
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the file."""
        Path(path).unlink(missing_ok=True)

    def wait(self) -> None:
        """Return when everything is written; raise what went wrong."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def teardown(self) -> None:
        """Wait, and end the thread; called at the end of the training, however it ends."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()


def _copied(state: Any) -> Any:
    """Return the tree with its tensors copied to the CPU: the training goes on changing them."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: _copied(value) for key, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)(_copied(value) for value in state)
    return state


def _write(state: dict[str, Any], path: Path, keep: int) -> None:
    """Write a state, keep it and those before it; what claims to be newer was damaged."""
    try:
        with atomic_path(path) as partial:
            torch.save(state, partial)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError of a full disk
        free_gib = shutil.disk_usage(path.parent).free / 2**30
        raise FolderError(
            f"{path}: the checkpoint could not be written ({type(error).__name__}); "
            f"{free_gib:.2f} GiB are free there",
            hint="make room and run the same command again: it goes on from the checkpoint before",
        ) from error
    kept = checkpoints(path.parent)
    mine = kept.index(path)
    for other in [*kept[: max(mine + 1 - keep, 0)], *kept[mine + 1 :]]:
        other.unlink(missing_ok=True)


class Checkpoints(lightning.Callback):
    """Saves everything a resume needs, every few steps and at the end.

    Only between optimiser steps: gradients half added up are no part of it.
    """

    def __init__(self, folder: Path, writer: BackgroundWriter, *, every_steps: int) -> None:
        self.folder, self.writer, self.every_steps = folder, writer, every_steps
        self._saved_at = -1

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save when a multiple of ``every_steps`` optimiser steps is done.

        Where a validation of this step is to come it waits for that: a training that resumes does
        not make up for one.
        """
        if step_ended(trainer, batch_idx) and not validation_follows(trainer, batch_idx):
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save what waited for the validation."""
        self._save_if_due(trainer)

    def on_train_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save the last state, and wait until it is written."""
        self.save(trainer)
        self.finish(trainer)

    def _save_if_due(self, trainer: lightning.Trainer) -> None:
        if trainer.global_step % self.every_steps == 0:
            self.save(trainer)

    def save(self, trainer: lightning.Trainer) -> None:
        """Save this state, once; every process must call it."""
        if trainer.global_step != self._saved_at:
            self._saved_at = trainer.global_step
            trainer.save_checkpoint(self.folder / _NAME.format(trainer.global_step))

    def finish(self, trainer: lightning.Trainer) -> None:
        """Return when the first process has written everything; every process must call it."""
        self.writer.wait()
        trainer.strategy.barrier("checkpoint written")


def step_ended(trainer: lightning.Trainer, batch_idx: int) -> bool:
    """Return whether the batch just done completed an optimiser step."""
    return (batch_idx + 1) % int(trainer.accumulate_grad_batches) == 0


def validation_follows(trainer: lightning.Trainer, batch_idx: int) -> bool:
    """Return whether Lightning validates before the next batch."""
    every = trainer.val_check_batch
    return bool(trainer.enable_validation and every and (batch_idx + 1) % every == 0)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, oldest first."""
    return sorted(folder.glob("step-*.ckpt"))


def steps_of(path: Path) -> int:
    """Return the optimiser steps that the checkpoint ``path`` holds, by its name."""
    return int(path.stem.removeprefix("step-"))


def latest(folder: Path) -> Resume:
    """Return the newest checkpoint of ``folder`` that can be read; a damaged one is passed over.

    Raises:
        InputError: There are checkpoints, and all are damaged.
    """
    found = checkpoints(folder)[::-1]
    for path in found:
        problem = _damage(path)
        if problem is None:
            return Resume(path, steps_of(path))
        _log.warning("%s cannot be read (%s): going back to the one before", path.name, problem)
    if found:
        raise InputError(
            f"{found[0]}: the checkpoint cannot be read, nor can any before it",
            hint="delete them to begin again, or start in another folder",
        )
    return Resume(None, 0)


def _damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint; every byte of it is compared with its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        steps = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"]
    except Exception as error:  # noqa: BLE001 - torch and zipfile raise anything
        return type(error).__name__
    if broken is not None:
        return "a checksum differs"
    return None if steps == steps_of(path) else "it holds another step than its name says"
