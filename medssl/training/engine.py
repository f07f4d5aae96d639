"""What a training runs on, whichever stage it belongs to."""

import ctypes
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import lightning
import numpy as np
import torch
from pydantic import Field

from medssl.config.base import Config


class EngineConfig(Config):
    """Device and numerical precision; one device for now."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto` takes a GPU when there is one."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Number format of the forward pass."""
    accumulate: Annotated[int, Field(gt=0)] = 1
    """Batches whose gradients are added up before one optimiser step."""
    channels_last: bool = True
    """Keep channels innermost in memory: the same numbers, faster convolutions."""

    def trainer(
        self,
        *,
        steps: int,
        callbacks: list[lightning.Callback],
        clip_norm: float | None,
        **options: Any,
    ) -> lightning.Trainer:
        """Return a trainer that logs, saves and shows nothing by itself: callbacks do."""
        keep_large_buffers()
        return lightning.Trainer(
            accelerator=self.accelerator,
            devices=1,
            precision=self.precision,
            accumulate_grad_batches=self.accumulate,
            gradient_clip_val=clip_norm,
            max_steps=steps,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            deterministic="warn" if self.accelerator == "cpu" else None,
            **options,
        )


def seed_batch(seed: int, batch: int) -> None:
    """Seed torch's generator from (seed, batch) alone.

    What a step draws then depends on nothing that came before it: a resumed training draws what
    an uninterrupted one does.
    """
    torch.manual_seed(int(np.random.SeedSequence([seed, batch]).generate_state(1)[0]))


def keep_large_buffers() -> None:
    """Tell glibc to keep freed memory instead of giving it back to the system at once.

    Activations of volumes are large, and by default every one is mapped, zeroed and unmapped
    again at each step. On two cores the median step of a small encoder took 1.2 times as long
    without this, and single steps 1.7 times.
    """
    if sys.platform != "linux" or torch.cuda.is_available():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library than glibc
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # constants of <malloc.h>
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 256 * 2**20)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence advice that does not apply to a loop whose order and length are our own."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for text in (
            ".*does not have many workers.*",
            ".*smaller than the logging interval.*",
            ".*GPU available but not used.*",
            ".*resuming from a checkpoint that ended before the epoch ended.*",
            ".*isinstance.treespec, LeafSpec.*",  # Lightning 2.6 under torch 2.13
        ):
            warnings.filterwarnings("ignore", text)
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
