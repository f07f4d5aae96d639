"""Map a function over rows on a Dask cluster: a bounded number at a time, results as they come."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from medssl.errors import MedSSLError
from medssl.runs.cluster import open_client, read_cluster

if TYPE_CHECKING:  # an extra, and slow to import
    from distributed import Client

Row = TypeVar("Row")
Result = TypeVar("Result")

_ROWS_PER_THREAD, _LEAST_ROWS = 4, 64
"""At hand on the cluster; few, since a row may be large and there may be a million of them."""


class NotSharedError(Exception):
    """A worker does not see a folder of this machine."""


class Sealed(Generic[Row, Result]):
    """A function and its row; shows nothing of them, since Dask writes what fails into logs."""

    def __init__(
        self, function: Callable[[Row], Result], row: Row, shared: Sequence[Path] = ()
    ) -> None:
        self.function, self.row, self.shared = function, row, shared

    def run(self) -> Result:
        """Work on the row; called by a worker.

        Raises:
            NotSharedError: the worker has not the folders it would read and write.
        """
        if not all(path.exists() for path in self.shared):
            raise NotSharedError
        return self.function(self.row)


def map_on_cluster(
    function: Callable[[Row], Result],
    rows: Sequence[Row],
    workers: str,
    *,
    crashed: Callable[[Row], Result] | None = None,
    shared: Sequence[Path] = (),
) -> Iterator[Result]:
    """Yield the result of every row, as ``map_unordered`` does, from the workers of a cluster.

    Rows that were on workers that died are tried again at the end, one at a time, so that only
    those that kill their worker on their own become ``crashed(row)``.

    Raises:
        MedSSLError: as ``map_unordered`` does.
    """
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    shared = [path.absolute() for path in shared]
    suspects: list[Row] = []
    with open_client(read_cluster(workers), len(rows)) as client:
        stream = _Stream(client, function, shared)
        try:
            for row, future in stream.results(rows):
                try:
                    result = future.result()
                except KilledWorker:
                    suspects.append(row)
                    continue
                yield result
            for row in suspects:
                yield _alone(stream, row, crashed)
        except (CancelledError, CommClosedError, TimeoutError) as error:
            raise MedSSLError(
                "the connection to the cluster's scheduler was lost",
                hint="start the cluster, then run the same again; what was finished is kept",
            ) from error
        except NotSharedError:
            raise MedSSLError(
                "a worker of the cluster does not see the sources or the library",
                hint="all its machines must have them under the same absolute paths",
            ) from None
        except ModuleNotFoundError as error:
            raise MedSSLError(
                f"a worker of the cluster has not the Python package {error.name}",
                hint="install the same medssl on all machines",
            ) from None
        finally:
            stream.cancel()


def _alone(
    stream: "_Stream[Row, Result]", row: Row, crashed: Callable[[Row], Result] | None
) -> Result:
    from distributed import KilledWorker

    try:
        ((_, future),) = stream.results([row])
        result: Result = future.result()
    except KilledWorker as error:
        if crashed is None:
            raise MedSSLError(
                "workers of the cluster were killed, most often because memory ran out",
                hint="give them more memory; what was finished is kept",
            ) from error
        return crashed(row)
    return result


class _Stream(Generic[Row, Result]):
    """Rows on their way through the cluster."""

    def __init__(
        self, client: "Client", function: Callable[[Row], Result], shared: Sequence[Path]
    ) -> None:
        self.client, self.function, self.shared = client, function, shared
        self.under_way: dict[Any, Row] = {}

    def results(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Any]]:
        """Yield every row with its finished future, in the order in which they are ready."""
        from distributed import as_completed

        waiting = deque(rows)
        finished = as_completed()
        self._fill(waiting, finished)
        for future in finished:
            row = self.under_way.pop(future)
            if future.cancelled():  # by the client itself, when it loses the scheduler
                raise CancelledError
            self._fill(waiting, finished)
            yield row, future

    def _fill(self, waiting: deque[Row], finished: Any) -> None:
        try:
            threads = sum(self.client.nthreads().values())
        except OSError:
            raise CancelledError from None
        while waiting and len(self.under_way) < max(_LEAST_ROWS, _ROWS_PER_THREAD * threads):
            row = waiting.popleft()
            sealed = Sealed(self.function, row, self.shared)
            future = self.client.submit(Sealed.run, sealed, pure=False)
            self.under_way[future] = row
            finished.add(future)

    def cancel(self) -> None:
        """Take back what has not been begun."""
        if self.client.status == "running":
            self.client.cancel(list(self.under_way))
