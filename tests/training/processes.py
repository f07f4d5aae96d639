"""Run a script in several processes that train together, as torchrun starts them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start(world, arguments):
    """Return the processes ``python ARGUMENTS``, one per rank; their output is kept."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
    }
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=ROOT,
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def together(world, *arguments):
    """Run ``python ARGUMENTS`` in ``world`` processes; an error in one is shown."""
    processes = start(world, arguments)
    said = [process.communicate(timeout=540)[0] for process in processes]
    for rank, (process, words) in enumerate(zip(processes, said, strict=True)):
        assert process.returncode == 0, f"process {rank}:\n{words}"
    return said
