"""The checkpoint a training resumes from: whole or not there, and never executable."""

from pathlib import Path
from typing import Any

import lightning
import torch

from medssl.errors import InputError
from medssl.runs.folder import atomic_path


class LastCheckpoint(lightning.Callback):
    """Writes everything a resume needs to one file, every few steps and at the end."""

    def __init__(self, path: Path, *, every_steps: int) -> None:
        self.path, self.every_steps = path, every_steps
        self._saved_at = -1

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save when a multiple of ``every_steps`` optimiser steps is done."""
        if trainer.global_step % self.every_steps == 0:
            self._save(trainer)

    def on_train_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save the last state."""
        self._save(trainer)

    def _save(self, trainer: lightning.Trainer) -> None:
        if trainer.global_step == self._saved_at:  # several batches per step under accumulation
            return
        self._saved_at = trainer.global_step
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path) as temporary:
            trainer.save_checkpoint(temporary, weights_only=False)  # the optimiser too


def steps_done(path: Path) -> int:
    """Return the optimiser steps that the checkpoint ``path`` holds; 0 when there is none.

    Raises:
        InputError: The file is damaged.
    """
    if not path.is_file():
        return 0
    try:
        return int(
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"]
        )
    except Exception as error:  # torch raises pickle, zip, OS and runtime errors alike
        raise InputError(
            f"{path}: the checkpoint cannot be read ({type(error).__name__})",
            hint="start again in another folder, or with --overwrite",
        ) from error
