"""MLflow's own page on the store that a folder's runs are recorded in, for this machine alone."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medssl.errors import InputError
from medssl.runs.destination import TrackingConfig, destination

HOST = "127.0.0.1"
_STARTS_WITHIN_S = 120.0
_DATABASE = "mlflow.db"


def find_store(folder: Path) -> str:
    """Return the URI of the store: MLFLOW_TRACKING_URI, or the database of ``folder``'s runs.

    Raises:
        InputError: There is no database in the folder, nor beside or above it.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return given
    resolved = folder.resolve()
    beside = destination(TrackingConfig(), resolved).uri.removeprefix("sqlite:///")
    candidates = [resolved / _DATABASE, Path(beside)]
    candidates += [above / _DATABASE for above in resolved.parents[:3]]
    for database in candidates:
        if database.is_file():
            return f"sqlite:///{database}"
    raise InputError(
        f"there is no {_DATABASE} in {folder} or above it",
        hint="give the folder that runs were written to, or set MLFLOW_TRACKING_URI",
    )


def free_port(wanted: int) -> int:
    """Return ``wanted`` where nothing listens there yet, else some other port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise InputError("no port is free on this machine", hint="close some program")


@contextmanager
def serving(store: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's page for the time of the block; it answers when the block begins.

    Raises:
        InputError: It ended at once, or does not answer.
    """
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port)]
    command += ["--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    where = {"MLFLOW_BACKEND_STORE_URI": store}  # no argument: it may hold a password
    process = subprocess.Popen(  # noqa: S603 - our own arguments, no shell
        command,
        env=os.environ | quiet | where,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_until_it_answers(process, port)
        yield process
    finally:
        _end(process)


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise InputError(
        "MLflow's page did not start",
        hint=f"see why: {sys.executable} -m mlflow ui --port {port} --backend-store-uri STORE",
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and the workers it started."""
    for number in (15, 9):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=10)
        except ProcessLookupError:
            process.wait(timeout=10)
            return
        except subprocess.TimeoutExpired:
            continue
        else:
            return
