"""Working on rows in several processes."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from medssl.errors import MedSSLError
from medssl.runs.workers import available_cores, map_unordered, threads_per_worker


@pytest.mark.parametrize("workers", [1, 2])
def test_every_row_is_worked_on_once(workers):
    found = list(map_unordered(partial(pow, exp=2), [1, 2, 3, 4], workers=workers))
    assert sorted(found) == [1, 4, 9, 16]


def test_no_rows_need_no_worker():
    assert list(map_unordered(abs, [], workers=4)) == []
    assert available_cores() >= 1


def test_workers_share_the_cores_among_them(monkeypatch):
    monkeypatch.setattr("medssl.runs.workers.available_cores", lambda: 8)
    shares = [(1, 9, 1), (2, 9, 1), (2, 1, 2), (0, 9, 1), (0, 2, 4), (16, 1, 8), ("inline", 9, 8)]
    for workers, rows, threads in [*shares, ("dask://host:8786", 9, 1), (2, 0, 2)]:
        assert threads_per_worker(workers, rows) == threads, workers


def test_what_a_row_raises_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(map_unordered(partial(divmod, 1), [1, 0], workers=2))


def test_a_killed_worker_is_explained():
    with pytest.raises(MedSSLError, match="memory ran out\n  hint: run again with fewer workers"):
        list(map_unordered(os._exit, [1, 1], workers=2))


PARENT = """
import os, sys, time
from medssl.runs.workers import map_unordered
from tests.runs.test_workers import report_and_sleep
if __name__ == "__main__":
    list(map_unordered(report_and_sleep, [sys.argv[1]] * 2, workers=2))
"""


def report_and_sleep(folder):
    with open(os.path.join(folder, str(os.getpid())), "w") as file:  # noqa: PTH118, PTH123
        file.write("working")
    time.sleep(60)


def test_workers_leave_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    (tmp_path / "pids").mkdir()
    with subprocess.Popen(
        [sys.executable, script, tmp_path / "pids"],
        env={**os.environ, "PYTHONPATH": os.getcwd()},  # noqa: PTH109
    ) as parent:
        pids = wait_for(
            lambda: found if len(found := list((tmp_path / "pids").iterdir())) == 2 else []
        )
        parent.send_signal(signal.SIGKILL)
    assert wait_for(lambda: not any(alive(int(pid.name)) for pid in pids))


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("waited too long")


def alive(pid):
    """Whether a process runs; one that ended and was not collected yet counts as gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before, or while it was read
        return False
