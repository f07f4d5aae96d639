"""What holds for every test: no network, no tracking server of the person who runs them."""

import ipaddress
import os
import socket
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("suite", deadline=None)  # a slow example on a busy machine is no failure
settings.load_profile("suite")

ROOT = Path(__file__).resolve().parents[1]

os.environ.update({"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"})  # before MLflow


def pytest_configure(config):
    """Give every process that runs tests its share of the cores, two threads at most.

    Threads that wait for a core burn the one they have. What runs tests side by side inherits
    the number from here, and OpenMP reads it once: nothing has imported torch so far.
    """
    processes = config.getoption("numprocesses", None) or 1
    share = len(os.sched_getaffinity(0)) // processes
    os.environ.setdefault("OMP_NUM_THREADS", str(min(2, max(1, share))))


@pytest.fixture(autouse=True)
def _as_many_threads_as_before():
    """Put back torch's number of threads, which scripts set: with another, last bits differ."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _is_local(host):
    if host in {"localhost", "", None}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """Refuse every connection and look-up that is not to this machine."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def connect_here(self, address):
        if self.family != socket.AF_UNIX and not _is_local(address[0]):
            raise AssertionError(f"a test tried to reach {address!r}")
        return connect(self, address)

    def look_up_here(host, *args, **kwargs):
        if not _is_local(host.decode() if isinstance(host, bytes) else host):
            raise AssertionError(f"a test tried to look up {host!r}")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", look_up_here)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    """Take away settings that would change what a test sees."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "MEDSSL_")) and name != "MLFLOW_DISABLE_TELEMETRY":
            monkeypatch.delenv(name)
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The real scans that ship with the project."""
    return ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of references beside a developer's checkout; not part of the project."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("there is no folder 'shared' beside this checkout")
    return folder
