"""What a training runs on, whichever stage it belongs to."""

import ctypes
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, Self

import lightning
import numpy as np
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from pydantic import Field, model_validator

from medssl.config.base import Config
from medssl.errors import ConfigError
from medssl.training.launch import Place, cluster_environment, place


class EngineConfig(Config):
    """Devices, how they share the work, and numerical precision.

    None of it changes what is computed beyond rounding: a batch is shared out over however many
    processes there are. Two draws alone are each process's own: the layers that a transformer
    drops, and the patches that crops exchange in `swin_pretext`. On several machines, or in a Slurm
    job, start one process per device with ``torchrun`` or ``srun``: the launcher's numbers then
    count more than ``devices``.
    """

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto` takes a GPU when there is one."""
    devices: Annotated[int, Field(gt=0)] | Literal["auto"] = 1
    """Devices of this machine to train on, one process each; `auto` for all its GPUs."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """What several processes share: `ddp` (and `auto`) the batch; `fsdp` also the weights, their
    gradients and the optimiser's state, stage by stage, for networks too large for one device."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"
    """Number format of the forward pass; 16-mixed scales the loss so that no gradient vanishes,
    64-true is for comparing two ways to the same numbers."""
    accumulate: Annotated[int, Field(gt=0)] = 1
    """Batches whose gradients are added up before one optimiser step."""
    channels_last: bool = True
    """Keep channels innermost in memory: the same numbers, faster convolutions."""
    checkpoint_activations: bool = False
    """Compute each stage's activations again on the way back: less memory, a third more work."""
    compile: bool = False
    """Compile the encoder, stage by stage; needs a C++ compiler on the CPU."""
    requeue: bool = False
    """After a signal to stop, ask Slurm to run the job again (`scontrol requeue`)."""

    @model_validator(mode="after")
    def _formats_that_can_be_shared(self) -> Self:
        if self.strategy == "fsdp" and self.precision not in ("32-true", "bf16-mixed"):
            raise ValueError(f"fsdp works in 32-true and bf16-mixed, not in {self.precision}")
        return self

    @property
    def gpu(self) -> bool:
        """Whether it trains on GPUs."""
        return self.accelerator != "cpu" and torch.cuda.is_available()

    @property
    def rounds_on_cpu(self) -> bool:
        """Whether it computes in bfloat16 on a CPU."""
        return self.precision.startswith("bf16") and not self.gpu

    @property
    def place(self) -> Place:
        """This process among those that train together."""
        if self.devices == "auto":
            return place(max(torch.cuda.device_count(), 1) if self.gpu else 1)
        return place(self.devices)

    @property
    def sharded(self) -> bool:
        """Whether each process keeps a part of the weights only."""
        return self.strategy == "fsdp" and self.place.world > 1

    def check_device(self) -> None:
        """Raise ConfigError where this machine cannot do what is asked for."""
        if self.accelerator == "gpu" and not torch.cuda.is_available():
            raise ConfigError(
                "engine.accelerator is gpu, and torch finds none here",
                hint="set it to auto or cpu; or see whether this torch was built for the driver",
            )
        if self.precision == "16-mixed" and not self.gpu:
            raise ConfigError(
                "engine.precision is 16-mixed, which needs a GPU",
                hint="bf16-mixed works everywhere",
            )

    def own_share(self, rows: int, what: str) -> int:
        """Return how many of a batch's ``rows`` belong to each process.

        Raises:
            ConfigError: They cannot be shared out evenly.
        """
        world = self.place.world
        if rows % world:
            raise ConfigError(
                f"{what} is {rows}, which {world} processes cannot share evenly",
                hint=f"{what} counts the whole batch: make it a multiple of {world}",
            )
        return rows // world

    def trainer(
        self,
        *,
        steps: int,
        callbacks: list[lightning.Callback],
        clip_norm: float | None,
        plugins: list[Any] | None = None,
        **options: Any,
    ) -> lightning.Trainer:
        """Return a trainer that logs, saves and shows nothing by itself: callbacks do."""
        keep_large_buffers()
        trainer = lightning.Trainer(
            accelerator=self.accelerator,
            devices=self.place.devices,
            num_nodes=self.place.nodes,
            strategy=self._strategy(),
            precision=self.precision,
            accumulate_grad_batches=self.accumulate,
            gradient_clip_val=clip_norm,
            max_steps=steps,
            callbacks=callbacks,
            plugins=[cluster_environment(), *(plugins or [])],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            deterministic="warn" if self.accelerator == "cpu" else None,
            **options,
        )
        # Its own handlers talk to other processes in the middle of whatever was interrupted.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        return trainer

    def _strategy(self) -> Strategy | str:
        world = self.place.world
        if world == 1:
            return "auto"
        if self.sharded:
            return ModelParallelStrategy(
                data_parallel_size=world, tensor_parallel_size=1, save_distributed_checkpoint=False
            )
        return DDPStrategy(find_unused_parameters=True)  # a method may leave a head out


def seed_batch(seed: int, batch: int, rank: int = 0) -> None:
    """Seed torch's generator from (seed, batch, rank) alone.

    What a step draws then depends on nothing that came before it: a resumed training draws what
    an uninterrupted one does.
    """
    torch.manual_seed(int(np.random.SeedSequence([seed, batch, rank]).generate_state(1)[0]))


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
    try:
        with warnings.catch_warnings():
            for text in (
                ".*does not have many workers.*",
                ".*smaller than the logging interval.*",
                ".*have no `val_dataloader`.*",  # of a store without volumes to validate on
                ".*GPU available but not used.*",
                ".*resuming from a checkpoint that ended before the epoch ended.*",
                ".*Grad strides do not match bucket view strides.*",
                ".*in eval mode at the start of training.*",  # those that do not train
                ".*isinstance.treespec, LeafSpec.*",  # Lightning 2.6 under torch 2.13
            ):
                warnings.filterwarnings("ignore", text)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
