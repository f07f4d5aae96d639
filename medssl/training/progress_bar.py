"""How far a training is, for whoever watches it."""

from typing import Any

import lightning

from medssl.runs import progress


class ProgressCallback(lightning.Callback):
    """Shows how far a training is, with its loss.

    The loss is read every few steps only, because reading it waits for the device.
    """

    def __init__(
        self, description: str, *, steps: int, resumed_at: int, every_steps: int = 1
    ) -> None:
        self._context = progress.task(description, steps, done=resumed_at)
        self._task: progress.Task | None = None
        self._step, self._every_steps = resumed_at, every_steps

    def on_train_start(self, *_: Any) -> None:
        """Begin the bar."""
        self._task = self._context.__enter__()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Move the bar by the steps just done."""
        done, self._step = trainer.global_step - self._step, trainer.global_step
        if done and self._task is not None:
            due = self._step % self._every_steps == 0
            loss = trainer.callback_metrics.get("loss") if due else None
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
