"""Processes that read for a training: signals that stop it leave them alone, and they end with it.

A job's signal may reach every process of it. A loader's process that died by one would take the
training down before its state is saved; one that ignores all of them would be waited for ever when
Python exits, which asks with SIGTERM.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import Pipe, resource_tracker
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from medssl.training.preemption import SIGNALS

T = TypeVar("T")


class Loader(DataLoader[T]):
    """A loader with any number of such processes, or none.

    Args:
        dataset: What is read.
        workers: Processes that read it.
        options: Those of torch's.
    """

    def __init__(self, dataset: Dataset[Any], *, workers: int, **options: Any) -> None:
        # Closed here it ends there, whoever is alive; an event would wait for all that wait for it.
        self._end, self._holding = Pipe(duplex=False)
        super().__init__(
            dataset,
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
            worker_init_fn=partial(_live_until, self._end),
            **options,
        )

    def __iter__(self) -> Any:
        with _stop_signals_blocked():
            return super().__iter__()

    def end(self) -> None:
        """End the processes; there is nothing to read afterwards."""
        self._holding.close()


@contextmanager
def ending(*loaders: Loader[Any] | None) -> Iterator[None]:
    """End the processes of loaders when the block ends, however it ends."""
    try:
        yield
    finally:
        for loader in loaders:
            if loader is not None:
                loader.end()


@contextmanager
def _stop_signals_blocked() -> Iterator[None]:
    """Have processes that start here begin deaf: importing takes them seconds."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        resource_tracker.ensure_running()  # multiprocessing's own helper, which is to live as well;
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # starting it unblocks SIGTERM
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live_until(end: Connection, _: int) -> None:
    """Ignore the signals in this process, and leave once it is told to end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def leave() -> None:
        with suppress(EOFError):
            end.recv_bytes()
        os._exit(0)

    threading.Thread(target=leave, daemon=True, name="end").start()
