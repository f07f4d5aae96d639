"""The one thread that predicts, and the places of those that wait for it."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from medssl.serving.refusals import full, too_slow

_LOOK_S = 0.2


@dataclass(frozen=True, eq=False)
class Job:
    """One request under way."""

    work: Callable[[], Any]
    deadline_s: float
    """Of the monotonic clock."""
    done: Future[Any] = field(default_factory=Future)


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
        self._jobs: queue.Queue[Job] = queue.Queue()
        self._places = threading.Lock()
        self._taken, self._stopping, self._deadline_s = 0, False, float("inf")
        self._thread = threading.Thread(target=self._run, name="predict", daemon=True)
        network.register_forward_pre_hook(lambda _network, _given: self._look_at_the_clock())

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current job."""
        self._stopping = True
        self._thread.join(timeout=self._time_s)

    @property
    def is_ready(self) -> bool:
        """Whether jobs are done."""
        return self._thread.is_alive() and not self._stopping

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

    def do(self, work: Callable[[], Any]) -> Future[Any]:
        """Return what will hold the result of ``work``, or why there is none."""
        job = Job(work, time.monotonic() + self._time_s)
        self._jobs.put(job)
        return job.done

    def _run(self) -> None:
        while not self._stopping:
            try:
                job = self._jobs.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            self._do(job)

    def _do(self, job: Job) -> None:
        if not job.done.set_running_or_notify_cancel():
            return
        self._deadline_s = job.deadline_s
        try:
            self._look_at_the_clock()
            job.done.set_result(job.work())
        except BaseException as error:  # noqa: BLE001  it is the caller's
            job.done.set_exception(error)
        finally:
            self._deadline_s = float("inf")

    def _look_at_the_clock(self) -> None:
        if time.monotonic() > self._deadline_s:
            raise too_slow(self._time_s)
