"""The one thread that predicts, and the places of those that wait for it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from torch import nn

from medssl.serving.refusals import full, too_slow

T = TypeVar("T")


class Worker:
    """Does jobs one after the other; of what is given up, not a window more than the current one.

    A place is taken before a body is read, so that neither memory nor disk fill up.
    """

    def __init__(self, network: nn.Module, waiting: int, time_s: float) -> None:
        """Prepare.

        Args:
            network: What the jobs run, window by window.
            waiting: How many may wait beside the one that is done.
            time_s: How long one may take, waiting included.
        """
        self._most, self._time_s = waiting + 1, time_s
        self._places = threading.Lock()
        self._taken, self._deadline_s = 0, float("inf")
        """The second of the monotonic clock, of the job under way."""
        self._pool: ThreadPoolExecutor | None = None
        network.register_forward_pre_hook(lambda _network, _given: self._look_at_the_clock())

    def start(self) -> None:
        """Begin."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="predict")

    def stop(self) -> None:
        """End after the current job."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    @property
    def is_ready(self) -> bool:
        """Whether jobs are done."""
        return self._pool is not None

    @property
    def taken(self) -> int:
        """How many requests are under way."""
        return self._taken

    @property
    def places(self) -> int:
        """How many there may be."""
        return self._most

    def enter(self) -> None:
        """Take a place; to be given back with ``leave``.

        Raises:
            RefusalError: There is none.
        """
        with self._places:
            if self._taken >= self._most or not self.is_ready:
                raise full()
            self._taken += 1

    def leave(self) -> None:
        """Give a place back."""
        with self._places:
            self._taken -= 1

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Return what will hold the result of ``work``, or why there is none.

        Raises:
            RefusalError: Nothing is done any more.
        """
        if self._pool is None:
            raise full()
        return self._pool.submit(self._do, work, time.monotonic() + self._time_s)

    def _do(self, work: Callable[[], T], deadline_s: float) -> T:
        self._deadline_s = deadline_s
        try:
            self._look_at_the_clock()
            return work()
        finally:
            self._deadline_s = float("inf")

    def _look_at_the_clock(self) -> None:
        if time.monotonic() > self._deadline_s:
            raise too_slow(self._time_s)
