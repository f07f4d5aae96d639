"""Progress of long work, for whoever listens: nothing is shown unless a reporter is installed."""

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


@dataclass(eq=False)
class Task:
    """One piece of work under way: ``done`` of ``total`` units."""

    description: str
    total: int | None
    done: int = 0
    note: str = ""

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count ``n`` more units as done; ``note`` is a short text shown beside the bar."""
        self.done += n
        self.note = note or self.note
        if _reporter is not None:
            _reporter.advanced(self)


class Reporter(Protocol):
    """Shows tasks to a person."""

    def started(self, task: Task) -> None:
        """A task began."""

    def advanced(self, task: Task) -> None:
        """A task moved on; called often, so it must be cheap."""

    def finished(self, task: Task) -> None:
        """A task ended, complete or not."""


_reporter: Reporter | None = None


def install(reporter: Reporter | None) -> None:
    """Send the progress of this process to ``reporter``, or to nobody."""
    global _reporter  # noqa: PLW0603 - one terminal per process, set once at the edge
    _reporter = reporter


@contextmanager
def task(description: str, total: int | None, *, done: int = 0) -> Iterator[Task]:
    """Yield a Task to advance; ``done`` units of ``total`` were finished by an earlier run."""
    work = Task(description, total, done)
    reporter = _reporter
    if reporter is not None:
        reporter.started(work)
    try:
        yield work
    finally:
        if reporter is not None:
            reporter.finished(work)


def track(items: Iterable[T], description: str, *, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` and report each as one unit, when the next is asked for."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with task(description, total) as work:
        for item in items:
            yield item
            work.advance()
