"""Which process of a training this is, and who started the others.

``torchrun`` and ``srun`` start all processes themselves and say so in the environment; without
them Lightning starts one process per device on this machine.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import distributed as dist

from medssl.runs.environment import rank


@dataclass(frozen=True, kw_only=True)
class Place:
    """One process among those that train together."""

    rank: int
    """Its number among all, from 0."""
    world: int
    """How many there are."""
    nodes: int
    """On how many machines."""

    @property
    def devices(self) -> int:
        """Processes per machine."""
        return self.world // self.nodes


def started_outside() -> bool:
    """Return whether torchrun or srun started this process among several."""
    return _by_torchrun() or _by_srun()


def place(devices: int) -> Place:
    """Return this process's place; ``devices`` counts where no launcher says otherwise."""
    if _by_torchrun():
        world = int(os.environ["WORLD_SIZE"])
        return Place(
            rank=int(os.environ["RANK"]),
            world=world,
            nodes=world // int(os.environ["LOCAL_WORLD_SIZE"]),
        )
    if _by_srun():
        return Place(
            rank=int(os.environ["SLURM_PROCID"]),
            world=int(os.environ["SLURM_STEP_NUM_TASKS"]),
            nodes=int(os.environ["SLURM_STEP_NUM_NODES"]),
        )
    return Place(rank=rank() if devices > 1 else 0, world=devices, nodes=1)


def cluster_environment() -> ClusterEnvironment:
    """Return Lightning's view of the launcher; Slurm's signals are left to ``preemption``."""
    if _by_torchrun():
        return TorchElasticEnvironment()
    if _by_srun():
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()


@contextmanager
def joined(*, gpu: bool) -> Iterator[None]:
    """Connect with the other processes before anything is decided, where a launcher started them.

    Those that Lightning starts need not be asked: by then the first one has decided.
    """
    environment = cluster_environment()
    if not started_outside() or dist.is_initialized():
        yield
        return
    os.environ["MASTER_ADDR"] = environment.main_address
    os.environ["MASTER_PORT"] = str(environment.main_port)
    if gpu:
        torch.cuda.set_device(environment.local_rank())
    dist.init_process_group(
        "nccl" if gpu else "gloo",
        rank=environment.global_rank(),
        world_size=environment.world_size(),
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _by_srun() -> bool:
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
