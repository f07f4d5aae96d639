"""Progress shown to a person: a bar with its time left on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from medssl.runs.progress import Task

_EVERY_S = 5.0


class RichReporter:
    """One live display with a bar per task under way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.RLock()
        self._display: Progress | None = None
        self._bars: dict[int, TaskID] = {}

    def started(self, task: Task) -> None:
        """Add a bar; the display appears with the first."""
        with self._lock:
            if self._display is None:
                self._display = Progress(
                    SpinnerColumn(),
                    TextColumn("{task.description}"),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TimeElapsedColumn(),
                    TextColumn("left"),
                    TimeRemainingColumn(),
                    TextColumn("[dim]{task.fields[note]}"),
                    console=self._console,
                    transient=True,
                    speed_estimate_period=60,
                )
                self._display.start()
            self._bars[id(task)] = self._display.add_task(
                task.description, total=task.total, completed=task.done, note=""
            )

    def advanced(self, task: Task) -> None:
        """Move the bar; the display refreshes itself ten times a second."""
        display, bar = self._display, self._bars.get(id(task))
        if display is not None and bar is not None:
            display.update(bar, completed=task.done, note=task.note)

    def finished(self, task: Task) -> None:
        """Take the bar away; the display goes with the last."""
        with self._lock:
            bar = self._bars.pop(id(task), None)
            if self._display is not None and bar is not None:
                self._display.remove_task(bar)
                if not self._bars:
                    self._display.stop()
                    self._display = None


class PlainReporter:
    """A line every few seconds, for log files and pipes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._started_s: dict[int, float] = {}
        self._told_s: dict[int, float] = {}

    def started(self, task: Task) -> None:
        """Remember when; nothing is said about what ends within seconds."""
        self._started_s[id(task)] = self._told_s[id(task)] = time.monotonic()

    def advanced(self, task: Task) -> None:
        """Say how far it is, unless something was said a moment ago."""
        now_s, key = time.monotonic(), id(task)
        with self._lock:
            if now_s - self._told_s.get(key, now_s) < _EVERY_S:
                return
            self._told_s[key] = now_s
        self._write(describe(task, now_s - self._started_s[key]))

    def finished(self, task: Task) -> None:
        """Say how long it took, if progress was shown."""
        started_s = self._started_s.pop(id(task), None)
        told_s = self._told_s.pop(id(task), None)
        if started_s is not None and told_s != started_s:
            spent_s = time.monotonic() - started_s
            self._write(f"{task.description}: {_count(task)} in {duration(spent_s)}")


def describe(task: Task, spent_s: float) -> str:
    """Return one line: percent, count, time left, note."""
    parts = [_count(task)]
    here = task.done - task.started_at
    if task.total:
        parts[0] = f"{100 * task.done / task.total:3.0f} % ({parts[0]})"
        if here > 0:
            left_s = spent_s / here * max(task.total - task.done, 0)
            parts.append(f"about {duration(left_s)} left")
    parts += [task.note] if task.note else []
    return f"{task.description}: {', '.join(parts)}"


def _count(task: Task) -> str:
    return str(task.done) if task.total is None else f"{task.done} of {task.total}"


def duration(seconds: float) -> str:
    """Return ``seconds`` as people say it: 42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004 - seconds in a minute
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:  # noqa: PLR2004 - minutes in an hour
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
