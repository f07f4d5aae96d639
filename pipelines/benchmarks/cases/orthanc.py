"""A real picture archive (Orthanc), in a network that nobody else can reach.

Orthanc listens on every address there is, so it is started in a network namespace of its own that
holds a loopback device and nothing more; the caller's thread enters it, and with it whatever the
caller starts. Making one takes root.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

PLUGINS: Final = Path("/usr/share/orthanc/plugins")
NEW_NETWORK: Final = 0x40000000
_ELSEWHERE = [folder for folder in os.get_exec_path() if Path(folder) != Path(sys.prefix, "bin")]
PROMPT: Final = {**os.environ, "TCP_NODELAY": "1", "PATH": os.pathsep.join(_ELSEWHERE)}
"""Without the first, dcmtk and Orthanc lose 40 ms with every image; without the second, an active
environment lends its own storescu, of pynetdicom, which is no foreign sender."""
TOOLS: Final = ("Orthanc", "storescu", "dcmcjpls", "ip", "setpriv")
_LONGEST_START_S = 30


class NoArchiveError(Exception):
    """There can be no archive here; the text says why."""


@contextmanager
def running(folder: Path, **options: Any) -> Iterator["Orthanc"]:
    """Yield an archive in a network of its own; nothing of it is left afterwards.

    Raises:
        NoArchiveError: Something is not installed, or there is no right to make a network.
    """
    _require()
    with _private_network():
        archive = Orthanc(folder, **options)
        try:
            yield archive.start()
        finally:
            archive.kill()


def free_port() -> int:
    """Return a port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """One archive: started, killed and started again on the same storage."""

    process: "subprocess.Popen[bytes]"

    def __init__(
        self, folder: Path, *, users: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        self.folder = folder
        self.http, self.dicom, self.receiver = free_port(), free_port(), free_port()
        self.web = f"dicomweb+http://127.0.0.1:{self.http}/dicom-web"
        self.dimse = f"dimse://ORTHANC@127.0.0.1:{self.dicom}"
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [str(PLUGINS / f"libOrthanc{name}.so") for name in ("DicomWeb", "Gdcm")],
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": users is not None,
            "AuthenticationEnabled": users is not None,
            "RegisteredUsers": users or {},
            "DicomModalities": {"medssl": ["MEDSSL", "127.0.0.1", self.receiver]},
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "orthanc.json").write_text(json.dumps(settings | options))

    def start(self) -> Self:
        """Start it, and return once it answers."""
        # Should the caller be killed, the kernel ends Orthanc too.
        command = ["setpriv", "--pdeathsig", "KILL", "Orthanc", str(self.folder / "orthanc.json")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=PROMPT)  # noqa: S603
        end = time.monotonic() + _LONGEST_START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.dicom), 1).close()
                urllib.request.urlopen(f"http://127.0.0.1:{self.http}/system", timeout=5).close()
            except urllib.error.HTTPError:
                return self  # it wants a password: it is there
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > end:
                    said = (self.folder / "log").read_text()[-2000:]
                    raise RuntimeError(f"Orthanc does not start: {said}") from error
                time.sleep(0.05)
            else:
                return self

    def kill(self) -> None:
        """End it as a failing machine would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def store(self, folder: Path, *options: str) -> None:
        """Send a folder as any other machine would."""
        send(folder, "ORTHANC", self.dicom, *options)

    def count(self) -> int:
        """Return how many objects it holds."""
        url = f"http://127.0.0.1:{self.http}/statistics"
        with urllib.request.urlopen(url, timeout=5) as said:
            return int(json.load(said)["CountInstances"])


def send(folder: Path, title: str, port: int, *options: str) -> None:
    """Run dcmtk's storescu on the files of ``folder``."""
    command = ["storescu", "-aec", title, *options, "+sd", "127.0.0.1", str(port), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=PROMPT)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"storescu: {done.stderr}")


def _require() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PROMPT["PATH"]) is None]
    if missing or not (PLUGINS / "libOrthancDicomWeb.so").exists():
        raise NoArchiveError(f"not installed: {', '.join(missing) or 'orthanc-dicomweb'}")
    if os.geteuid() != 0:
        raise NoArchiveError("a private network takes root")


@contextmanager
def _private_network() -> Iterator[None]:
    """Move this thread, and what it starts, into a network of nothing but loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before:
        if libc.unshare(NEW_NETWORK) != 0:
            why = os.strerror(ctypes.get_errno())
            raise NoArchiveError(f"no private network here: {why}")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True, env=PROMPT)  # noqa: S607
            yield
        finally:
            if libc.setns(before.fileno(), NEW_NETWORK) != 0:
                raise RuntimeError("this thread cannot leave its private network")
