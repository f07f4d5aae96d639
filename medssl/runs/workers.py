"""Map a function over rows in several processes of this machine."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from medssl.errors import MedSSLError

Row = TypeVar("Row")
Result = TypeVar("Result")


def available_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_unordered(
    function: Callable[[Row], Result], rows: Sequence[Row], *, workers: int = 0
) -> Iterator[Result]:
    """Yield the result of every row, in the order in which they are ready.

    Args:
        function: Importable by name, as are its rows and results; may be a ``partial``.
        rows: What to work on.
        workers: Processes; 0 means one per core, 1 means this process.

    Raises:
        MedSSLError: A worker was killed. What ``function`` raises is raised here as it is.
    """
    workers = min(workers or available_cores(), len(rows))
    if workers <= 1:
        yield from map(function, rows)
        return
    # Forking a process that has threads can deadlock the child, so workers start afresh.
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=end_with_parent
    )
    try:
        for future in as_completed([pool.submit(function, row) for row in rows]):
            yield future.result()
    except BrokenProcessPool as error:
        raise MedSSLError(
            "a worker process was killed, most often because memory ran out",
            hint="run again with fewer workers; what was finished is kept",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """Leave when the parent is killed: an orphan would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
