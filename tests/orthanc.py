"""A real picture archive (Orthanc) for tests, in a network that nobody else can reach.

Orthanc listens on every address there is, so it is started in a network namespace of its own that
holds a loopback device and nothing more; the test's thread enters it, and with it whatever the
test starts. Making one takes root.
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
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

PLUGINS = Path("/usr/share/orthanc/plugins")
NEW_NETWORK = 0x40000000
_ELSEWHERE = [folder for folder in os.get_exec_path() if Path(folder) != Path(sys.prefix, "bin")]
PROMPT = {**os.environ, "TCP_NODELAY": "1", "PATH": os.pathsep.join(_ELSEWHERE)}
"""Without the first, dcmtk and Orthanc lose 40 ms with every image; without the second, an active
environment lends its own storescu, of pynetdicom, which is no foreign sender."""
TOOLS = ("Orthanc", "storescu", "dcmcjpls", "ip", "setpriv")


def require():
    """Skip the test where Orthanc, dcmtk or the right to make a network is missing."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PROMPT["PATH"]) is None]
    if missing or not (PLUGINS / "libOrthancDicomWeb.so").exists():
        pytest.skip(f"not installed: {', '.join(missing) or 'orthanc-dicomweb'}")
    if os.geteuid() != 0:
        pytest.skip("a private network takes root")


@contextmanager
def private_network():
    """Move this thread, and what it starts, into a network of nothing but loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before:
        if libc.unshare(NEW_NETWORK) != 0:
            pytest.skip(f"no private network here: {os.strerror(ctypes.get_errno())}")
        try:
            subprocess.run([shutil.which("ip"), "link", "set", "lo", "up"], check=True)
            yield
        finally:
            assert libc.setns(before.fileno(), NEW_NETWORK) == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Orthanc:
    """One archive: started, killed and started again on the same storage."""

    def __init__(self, folder, *, users=None, **options):
        self.folder, self.process = folder, None
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

    def start(self):
        log = (self.folder / "log").open("ab")
        # Should pytest be killed, the kernel ends Orthanc too.
        command = ["setpriv", "--pdeathsig", "KILL", "Orthanc", str(self.folder / "orthanc.json")]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=PROMPT)
        log.close()
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.dicom), 1).close()
                urllib.request.urlopen(f"http://127.0.0.1:{self.http}/system", timeout=5).close()
            except urllib.error.HTTPError:
                return self  # it wants a password: it is there
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
                assert time.monotonic() < end
                time.sleep(0.05)
            else:
                return self

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def store(self, folder, *options):
        """Send a folder as any other machine would."""
        send(folder, "ORTHANC", self.dicom, *options)

    def count(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/statistics", timeout=5) as said:
            return json.load(said)["CountInstances"]


def send(folder, title, port, *options):
    """Run dcmtk's storescu on the files of ``folder``."""
    command = ["storescu", "-aec", title, *options, "+sd", "127.0.0.1", str(port), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=PROMPT)
    assert done.returncode == 0, done.stderr


@contextmanager
def running(folder, **options):
    """Yield an archive in a network of its own; nothing of it is left afterwards."""
    require()
    with private_network():
        archive = Orthanc(folder, **options)
        try:
            yield archive.start()
        finally:
            archive.kill()
