"""Members of a study over the processes of this machine, or a cluster: as many as fit."""

import logging
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

import torch

from medssl.errors import PreemptedError
from medssl.evaluation.study.members import Member, Outcome, killed
from medssl.runs import progress
from medssl.runs.workers import available_cores, map_unordered

_log = logging.getLogger(__name__)

Work = Callable[[Member], Outcome]
_SPARE: Final = 0.9
"""Share of the free memory that members may fill."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def fan_out(
    work: Work,
    members: Sequence[Member],
    *,
    workers: int | str,
    accelerator: str,
    told: str,
    shared: Sequence[Path] = (),
) -> Iterator[Outcome]:
    """Yield what became of every member, in the order in which they are ready.

    With ``workers`` 0, one member is done alone, and the memory that it took says how many of the
    others fit beside each other.

    Args:
        work: Trains or judges a member; importable by name.
        members: Those that need the most memory first.
        workers: As ``medssl.runs.workers`` has it.
        accelerator: That of the training: with GPUs, members are dealt to them.
        told: What is being done, for people.
        shared: Folders that the workers of a cluster must see.

    Raises:
        PreemptedError: This process was told to stop; its workers have saved what they had.
        MedSSLError: The cluster cannot be used.
    """
    gpus = visible_gpus(accelerator)
    if gpus > 1 and isinstance(workers, int):
        work = partial(_on_a_gpu, work=work, gpus=gpus)
    waiting = list(members)
    with progress.task(told, len(members)) as task, _passing_on_signals():
        at_once, fitted = workers, workers != 0
        while waiting:
            batch = waiting if fitted else waiting[:1]
            waiting = waiting[len(batch) :]
            for outcome in map_unordered(
                work, batch, workers=at_once if fitted else 1, crashed=killed, shared=shared
            ):
                if outcome.stopped:
                    raise _told_to_stop()
                if not fitted and outcome.peak_gib is not None:
                    at_once, fitted = fitting(outcome.peak_gib, len(waiting), gpus), True
                task.advance(note=outcome.member.title)
                if outcome.problem is not None:
                    _log.warning("%s is missing: %s", outcome.member.title, outcome.problem)
                yield outcome


def fitting(peak_gib: float, members: int, gpus: int) -> int:
    """Return how many members fit at once, when one takes so much memory."""
    free_gib = _SPARE * free_memory_gib()
    most = max(1, min(gpus or available_cores(), members))
    count = max(1, min(most, int(free_gib / max(peak_gib, 0.1))))
    if members:
        _log.info(
            "One takes %.1f GiB of memory, of which %.1f GiB are free: %d at a time.",
            peak_gib,
            free_gib,
            count,
        )
    return count


def free_memory_gib() -> float:
    """Return the memory that this machine, or the container around this process, has left."""
    import psutil  # type: ignore[import-untyped]

    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        most = int((group / "memory.max").read_text())
        free = min(free, most - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        pass
    return free / 1024**3


def visible_gpus(accelerator: str) -> int:
    """Return how many GPUs trainings with this accelerator may use."""
    return torch.cuda.device_count() if accelerator in {"auto", "gpu", "cuda"} else 0


def _on_a_gpu(member: Member, *, work: Work, gpus: int) -> Outcome:
    number = re.search(r"\d+$", multiprocessing.current_process().name)
    take_gpu(int(number[0]) if number else 0, gpus)
    return work(member)


def take_gpu(process: int, gpus: int) -> None:
    """Let this process see one GPU of several, always the same; before it uses any."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(gpus)] if given is None else given.split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = names[process % len(names)]


@contextmanager
def _passing_on_signals() -> Iterator[None]:
    """Hand a signal to stop on to the workers of this machine, which then save and end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def stop(number: int, frame: FrameType | None) -> None:
        for child in multiprocessing.active_children():
            child.terminate()
        earlier = before[signal.Signals(number)]
        if number == signal.SIGINT and callable(earlier):
            earlier(number, frame)
        raise _told_to_stop()

    for number in _SIGNALS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _told_to_stop() -> PreemptedError:
    return PreemptedError(
        "told to stop: what the members had is saved",
        hint="to continue where it stopped, run the same command again",
    )
