"""Map a function over rows: in this process, in several of this machine, or on a cluster."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from medssl.runs.pool import map_in_processes, prepare

Row = TypeVar("Row")
Result = TypeVar("Result")

INLINE = "inline"
"""Everything in this process, one row after the other: for a debugger or a profiler."""


def _number(workers: object) -> object:
    """Return the number that a command line hands over as text."""
    return int(workers) if isinstance(workers, str) and workers.isdecimal() else workers


def _known_workers(workers: int | str) -> int | str:
    if isinstance(workers, str) and workers != INLINE:
        from medssl.runs.cluster import read_cluster

        read_cluster(workers)  # a mistake in it shows before any work, not hours later
    return workers


Workers = Annotated[
    Annotated[int, Field(ge=0)] | str,
    BeforeValidator(_number),
    AfterValidator(_known_workers),
]
"""Who works: a number of processes of this machine (0 means one per core), ``inline``, the address
``dask://host:port`` of a Dask scheduler, or a YAML file that describes a cluster."""


def available_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_per_worker(workers: int | str, rows: int) -> int:
    """Return how many threads each worker may run: a number of workers is a number of cores.

    Fewer rows than workers leave cores idle, and threads use them. On a cluster it is one: how
    many workers share a machine is known only there.
    """
    if isinstance(workers, str):
        return available_cores() if workers == INLINE else 1
    cores = min(workers or available_cores(), available_cores())
    return max(1, cores // max(1, min(cores, rows)))


def prepare_workers(function: Callable[..., object], workers: int | str) -> None:
    """Begin what takes a while of starting ``workers``, to be called once work is in sight."""
    if not isinstance(workers, str):
        prepare(function)


def map_unordered(
    function: Callable[[Row], Result],
    rows: Sequence[Row],
    *,
    workers: int | str = 0,
    crashed: Callable[[Row], Result] | None = None,
    shared: Sequence[Path] = (),
) -> Iterator[Result]:
    """Yield the result of every row, in the order in which they are ready.

    Args:
        function: Importable by name, as are its rows and results; may be a ``partial``.
        rows: What to work on.
        workers: See ``Workers``. One process is this one, unless ``crashed`` is given.
        crashed: Gives the result of a row that kills its worker; the other rows go on. It needs
            a worker that may die, so even one row has a process of its own, save when inline.
        shared: What the workers of a cluster must find under the same path as this machine.

    Raises:
        MedSSLError: A worker was killed and there is no ``crashed``, or the cluster cannot be
            reached or used. What ``function`` raises is raised here as it is.
    """
    if not rows:
        return
    if isinstance(workers, str) and workers != INLINE:
        from medssl.runs.stream import map_on_cluster

        yield from map_on_cluster(function, rows, workers, crashed=crashed, shared=shared)
        return
    processes = 1 if isinstance(workers, str) else min(workers or available_cores(), len(rows))
    if workers == INLINE or (processes == 1 and crashed is None):
        yield from map(function, rows)
    else:
        yield from map_in_processes(function, rows, processes, crashed)
