"""Progress shown to a person: a bar with its time left on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass
class _Seen:
    """When things happened to a task, in seconds."""

    started_s: float
    told_s: float
    first_s: float = 0.0
    first_done: int = 0


class PlainReporter:
    """A line every few seconds, for log files and pipes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._seen: dict[int, _Seen] = {}

    def started(self, task: Task) -> None:
        """Remember when; nothing is said about what ends within seconds."""
        now_s = time.monotonic()
        self._seen[id(task)] = _Seen(now_s, now_s)

    def advanced(self, task: Task) -> None:
        """Say how far it is, unless something was said a moment ago."""
        now_s = time.monotonic()
        with self._lock:
            seen = self._seen.get(id(task))
            if seen is None:
                return
            if not seen.first_s:  # the first unit also pays for starting workers and the like
                seen.first_s, seen.first_done = now_s, task.done
            if now_s - seen.told_s < _EVERY_S:
                return
            seen.told_s = now_s
        units = task.done - seen.first_done
        self._write(describe(task, (now_s - seen.first_s) / units if units else None))

    def finished(self, task: Task) -> None:
        """Say how long it took, if progress was shown."""
        seen = self._seen.pop(id(task), None)
        if seen is not None and seen.told_s != seen.started_s:
            spent_s = time.monotonic() - seen.started_s
            self._write(f"{task.description}: {_count(task)} in {duration(spent_s)}")


def describe(task: Task, unit_s: float | None) -> str:
    """Return one line: percent, count, time left at ``unit_s`` seconds per unit, note."""
    parts = [_count(task)]
    if task.total:
        parts[0] = f"{100 * task.done / task.total:3.0f} % ({parts[0]})"
        if unit_s is not None:
            parts.append(f"about {duration(unit_s * max(task.total - task.done, 0))} left")
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
