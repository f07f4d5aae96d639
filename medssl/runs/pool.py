"""Map a function over rows in processes of this machine, any of which may be killed."""

import multiprocessing
import os
import resource
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext
from typing import TypeVar

from medssl.errors import MedSSLError

Row = TypeVar("Row")
Result = TypeVar("Result")

_ROWS_PER_PROCESS = 2
"""One under way and one at hand; few, because all of them are suspects when a worker dies."""


def map_in_processes(
    function: Callable[[Row], Result],
    rows: Sequence[Row],
    processes: int,
    crashed: Callable[[Row], Result] | None = None,
) -> Iterator[Result]:
    """Yield the result of every row, in the order in which they are ready.

    Where a worker dies, the rows under way go through one worker, one after the other, so that
    the culprit is known: its result is ``crashed(row)``. Then all processes go on with the rest.

    Raises:
        MedSSLError: A worker was killed, and there is no ``crashed``.
    """
    waiting = deque(rows)
    while waiting:
        under_way: dict[Future[Result], Row] = {}
        pool = _start(min(processes, len(waiting)), function)
        try:
            yield from _work(pool, function, waiting, under_way, processes * _ROWS_PER_PROCESS)
        except BrokenProcessPool as error:
            if crashed is None:
                raise MedSSLError(
                    "a worker process was killed, most often because memory ran out",
                    hint="run again with fewer workers; what was finished is kept",
                ) from error
        finally:
            pool.shutdown(cancel_futures=True)
        if crashed is not None and under_way:
            yield from _one_by_one(function, deque(under_way.values()), crashed)


def prepare(function: Callable[..., object]) -> None:
    """Begin to import what workers need for ``function``, beside what this process does."""
    _context(function)
    forkserver.ensure_running()


def _work(
    pool: ProcessPoolExecutor,
    function: Callable[[Row], Result],
    waiting: deque[Row],
    under_way: dict[Future[Result], Row],
    most: int,
) -> Iterator[Result]:
    """Move rows from ``waiting`` to ``under_way`` and yield their results until none is left."""
    while waiting or under_way:
        while waiting and len(under_way) < most:
            under_way[pool.submit(function, waiting[0])] = waiting[0]
            waiting.popleft()
        for future in wait(under_way, return_when=FIRST_COMPLETED).done:
            result = future.result()
            del under_way[future]
            yield result


def _one_by_one(
    function: Callable[[Row], Result], rows: deque[Row], crashed: Callable[[Row], Result]
) -> Iterator[Result]:
    while rows:
        with _start(1, function) as pool:
            try:
                while rows:
                    result = pool.submit(function, rows[0]).result()
                    rows.popleft()
                    yield result
            except BrokenProcessPool:
                yield crashed(rows.popleft())


def _start(processes: int, function: Callable[..., object]) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, _context(function), initializer=_end_with_parent)


def _context(function: Callable[..., object]) -> ForkServerContext:
    # Forking a process that has threads can deadlock the child, so workers are forked from a
    # server that has none. It imports what they need once, and the next one starts at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", _module_of(function)])
    return context


def _module_of(function: Callable[..., object]) -> str:
    while isinstance(function, partial):
        function = function.func
    return function.__module__


def _end_with_parent() -> None:
    """Leave when the parent is killed, where an orphan would wait for work for ever.

    And leave no core dump of a crash: it would hold what the worker read.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
