"""A Dask cluster of processes on loopback, and a Slurm of shell scripts on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(__file__).parents[1]),
    "OMP_NUM_THREADS": "1",
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
}


class DaskCluster:
    """A scheduler and its workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"dask://127.0.0.1:{self.port}"
        self.processes = []
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard",
            "--dashboard-address", "127.0.0.1:0",
        )  # fmt: skip

    def add_workers(self, count: int) -> subprocess.Popen:
        """Start one process with ``count`` workers below it."""
        return self._start(
            "worker", f"tcp://127.0.0.1:{self.port}", "--nthreads", "1", "--nworkers", str(count),
            "--host", "127.0.0.1", "--no-dashboard", "--local-directory", str(self.folder),
        )  # fmt: skip

    def _start(self, *arguments: str) -> subprocess.Popen:
        log = self.folder / f"{len(self.processes)}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                env=ENVIRONMENT,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def log(self) -> str:
        """Everything that scheduler and workers wrote."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def stop(self) -> None:
        for process in reversed(self.processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def dask_cluster(folder: Path, workers: int):
    """Yield a running cluster."""
    folder.mkdir(parents=True, exist_ok=True)
    cluster = DaskCluster(folder)
    try:
        if workers:
            cluster.add_workers(workers)
        yield cluster
    finally:
        cluster.stop()


def descendants(pid: int) -> list[int]:
    """Return the processes below ``pid``, the nearest first."""
    children = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):  # each thread has its own
        with suppress(FileNotFoundError):
            children += map(int, path.read_text().split())
    return children + [below for child in children for below in descendants(child)]


def wait_for(condition, seconds=30.0):
    """Return what ``condition`` gives as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("waited too long")


SBATCH = """#!/bin/sh
[ "$1" = --test-only ] && exit 0
# The last argument is the script; it runs in the background, as a job would on a node.
for script; do :; done
id=$(( $(ls "$FAKE_SLURM" | wc -l) + 1 ))
cp "$script" "$FAKE_SLURM/$id.sh"
setsid sh -c "sh '$FAKE_SLURM/$id.sh' > '$FAKE_SLURM/$id.log' 2>&1" > /dev/null 2>&1 &
echo $! > "$FAKE_SLURM/$id.pid"
echo "Submitted batch job $id"
"""
SCANCEL = """#!/bin/sh
for id; do
  echo "$id" >> "$FAKE_SLURM/cancelled"
  kill -TERM -- -"$(cat "$FAKE_SLURM/$id.pid")" 2> /dev/null
done
exit 0
"""
SQUEUE = """#!/bin/sh
exit 0
"""


def fake_slurm(folder: Path, monkeypatch) -> Path:
    """Put ``sbatch``, ``scancel`` and ``squeue`` first on the PATH; return where jobs are kept."""
    programs, jobs = folder / "bin", folder / "jobs"
    programs.mkdir(parents=True)
    jobs.mkdir()
    for name, text in {"sbatch": SBATCH, "scancel": SCANCEL, "squeue": SQUEUE}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(jobs))
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    return jobs
