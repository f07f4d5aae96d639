"""MLflow's own page on the store that a folder's runs are recorded in, for this machine alone."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medssl.errors import InputError
from medssl.runs.destination import TrackingConfig, artifacts_of, destination

HOST = "127.0.0.1"
_STARTS_WITHIN_S = 120.0
_PORTS_TRIED = 10
_LISTENS, _IN_USE = "Uvicorn running on", "address already in use"
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


@contextmanager
def serving(store: str, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run MLflow's page for the time of the block; yield its address and its process.

    It answers when the block begins. Where ``port`` is in use, one of the next is taken.

    Raises:
        InputError: It does not start.
    """
    with tempfile.TemporaryDirectory(prefix="medssl-board-") as place:
        for candidate in range(port, port + _PORTS_TRIED):
            log = Path(place) / f"{candidate}.log"
            process = _start(store, candidate, log)
            try:
                if _runs(process, log):
                    yield f"http://{HOST}:{candidate}", process
                    return
            finally:
                _end(process)
            if _IN_USE not in log.read_text(errors="replace"):
                break
    raise InputError(
        "MLflow's page did not start",
        hint=f"see why: {sys.executable} -m mlflow ui --port {port} --backend-store-uri STORE",
    )


def _start(store: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port)]
    beside = artifacts_of(store)  # else what is made on the page would go to the current folder
    command += ["--default-artifact-root", beside] if beside else []
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    where = {"MLFLOW_BACKEND_STORE_URI": store}  # no argument: it may hold a password
    with log.open("wb") as said:
        return subprocess.Popen(  # noqa: S603 - our own arguments, no shell
            [*command, "--workers", "1"],
            env=os.environ | quiet | where,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def _runs(process: subprocess.Popen[bytes], log: Path) -> bool:
    """Wait until the server says that it listens; return whether it ever did."""
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        if _LISTENS in log.read_text(errors="replace"):
            return True
        if ended:
            return False
        time.sleep(0.2)
    return False


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
