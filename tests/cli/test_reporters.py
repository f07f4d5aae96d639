import io

import pytest
from rich.console import Console

from medssl.cli import reporters
from medssl.cli.reporters import PlainReporter, RichReporter, describe, duration
from medssl.runs import progress
from medssl.runs.progress import Task


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    clock = Clock()
    monkeypatch.setattr(reporters.time, "monotonic", lambda: clock.now)
    yield clock
    progress.install(None)


def test_plain_lines_come_at_most_every_few_seconds_with_percent_and_time_left(clock):
    lines: list[str] = []
    progress.install(PlainReporter(lines.append))
    with progress.task("pretrain", 100) as task:
        for _ in range(100):
            clock.now += 0.4
            task.advance(note="loss 0.5")
    assert lines[0] == "pretrain:  13 % (13 of 100), about 35 s left, loss 0.5"
    assert lines[-1] == "pretrain: 100 of 100 in 40 s"
    assert len(lines) == 8


def test_a_short_task_says_nothing(clock):
    lines: list[str] = []
    progress.install(PlainReporter(lines.append))
    for _ in progress.track([1, 2], "quick"):
        clock.now += 1
    assert lines == []


def test_time_left_is_that_of_later_units_and_of_this_process(clock):
    lines: list[str] = []
    progress.install(PlainReporter(lines.append))
    with progress.task("x", 100, done=50) as task:
        clock.now += 60  # workers start, packages are imported
        task.advance()
        for _ in range(4):
            clock.now += 2
            task.advance()
    assert lines[0] == "x:  51 % (51 of 100)"
    assert lines[1] == "x:  54 % (54 of 100), about 1 min 32 s left"


def test_a_task_of_unknown_length_counts():
    task = Task("x", None)
    task.done = 3
    assert describe(task, 10) == "x: 3"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")],
)
def test_durations_are_said_as_people_do(seconds, words):
    assert duration(seconds) == words


def test_a_terminal_gets_a_bar_and_keeps_nothing_of_it():
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=100)
    progress.install(RichReporter(console))
    try:
        with progress.task("outer", 2) as outer:
            for _ in progress.track("ab", "inner"):
                outer.advance(note="loss 0.25")
            console.print("a log line")
    finally:
        progress.install(None)
    text = terminal.getvalue()
    assert "outer" in text
    assert "a log line" in text
