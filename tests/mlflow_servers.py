"""MLflow servers for tests, on this machine alone: real ones, and one that misbehaves on demand."""

import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest
import requests

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@functools.cache
def _blank_database():
    """Return an empty MLflow database, made once: that takes seconds."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = Path(tempfile.mkdtemp(prefix="medssl-mlflow-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = SqlAlchemyStore(f"sqlite:///{folder / 'mlflow.db'}", (folder / "files").as_uri())
    store.engine.dispose()
    return folder / "mlflow.db"


def blank_store(folder):
    """Leave an empty ``mlflow.db`` in ``folder`` and return its URI."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_blank_database(), folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


class Server:
    """``mlflow server`` with its artifacts behind its own proxy."""

    def __init__(self, store, artifacts, *, options=(), environment=None, health="/health"):
        self.port, self.process = free_port(), None
        self.uri = f"http://127.0.0.1:{self.port}"
        self._health = self.uri + health
        self._command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        self._command += ["--port", str(self.port), "--workers", "1", "--serve-artifacts"]
        self._command += ["--backend-store-uri", store, "--artifacts-destination", str(artifacts)]
        self._command += list(options)
        self._environment = os.environ | (environment or {})
        self._log = Path(artifacts).with_suffix(".log")

    def start(self):
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(self._log.read_text(errors="replace")[-3000:])
            try:
                requests.get(self._health, timeout=2)
                return self
            except requests.RequestException:
                time.sleep(0.1)
        raise AssertionError(f"no answer: {self._log.read_text(errors='replace')[-3000:]}")

    def kill(self):
        """End it, and all it started, as a power cut does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def serving(*args, **kwargs):
    server = Server(*args, **kwargs)
    try:
        yield server.start()
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()


class Postgres:
    """A PostgreSQL of the test's own, which can crash and come back."""

    def __init__(self, folder):
        self.folder, self.data, self.port = folder, folder / "data", free_port()
        self.uri = f"postgresql+psycopg2://mlflow@127.0.0.1:{self.port}/mlflow"
        self.root = os.geteuid() == 0  # which PostgreSQL refuses to run as
        if self.root:
            shutil.chown(folder, "postgres", "postgres")
        flags = ("-A", "trust", "-U", "mlflow", "--no-sync", "-E", "UTF8")
        self.run("initdb", "-D", str(self.data), *flags)
        self.start()
        self.run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", "mlflow")

    def run(self, program, *words):
        user = ["runuser", "-u", "postgres", "--"] if self.root else []
        command = [*user, str(POSTGRES[-1] / program), *words]
        with (self.folder / "said.log").open("ab") as log:
            options = {"cwd": self.folder, "stdout": log, "stderr": log, "timeout": 120}
            subprocess.run(command, check=True, **options)

    def start(self, settings=""):
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 {settings}"
        options += f" -c unix_socket_directories={self.folder}"
        log = str(self.folder / "log")
        self.run("pg_ctl", "-D", str(self.data), "-w", "-l", log, "-o", options, "start")

    def crash(self):
        """End it without a word to its clients or its disk; it recovers from its log."""
        self.run("pg_ctl", "-D", str(self.data), "-w", "-m", "immediate", "stop")


@contextmanager
def postgres():
    """Yield an empty PostgreSQL."""
    if not POSTGRES:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg2", reason="psycopg2-binary is not installed")
    folder = Path(tempfile.mkdtemp(prefix="medssl-postgres-"))
    try:
        database = Postgres(folder)
        yield database
        database.crash()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Moody(ThreadingHTTPServer):
    """Enough of MLflow's interface to record one run, and it fails or sleeps when it is told to.

    ``accepted`` holds what it took, in order: ("metric", key, step, value) and the like.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"
        self.run_id = uuid4().hex  # of its own: MLflow's client remembers where a run's files go
        self.fails, self.sleeps_s, self.accepted, self.asked = 0, 0.0, [], 0
        self.fails_only = ""
        """Part of the paths that fail; the others work."""
        self.poison = ""
        """What no request may hold."""


@contextmanager
def moody():
    with Moody() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _do(self):
        server, length = self.server, int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        server.asked += 1
        time.sleep(server.sleeps_s)
        if server.fails and server.fails_only in self.path:
            code = "BAD_REQUEST" if server.fails == 400 else "INTERNAL_ERROR"
            self._say(server.fails, {"error_code": code, "message": "told to"})
            return
        if server.poison and server.poison.encode() in body:
            self._say(400, {"error_code": "BAD_REQUEST", "message": "the database says no"})
            return
        self._say(200, self._answer(self.path.split("?")[0], body))

    do_GET = do_POST = do_PUT = do_PATCH = _do

    def _answer(self, path, body):
        root = "mlflow-artifacts:/0/run/artifacts"
        if "mlflow-artifacts" in path:
            self.server.accepted.append(("file", path.rsplit("/", 1)[-1]))
            return {}
        if path.endswith("experiments/get-by-name"):
            return {"experiment": {"experiment_id": "0", "name": "medssl"}}
        run = {
            "info": {"run_id": self.server.run_id, "experiment_id": "0", "artifact_uri": root},
            "data": {},
        }
        if path.endswith(("runs/create", "runs/get")):
            return {"run": run}
        asked = json.loads(body or "{}")
        for metric in asked.get("metrics", []):
            key, step, value = metric["key"], int(metric.get("step", 0)), metric["value"]
            self.server.accepted.append(("metric", key, step, value))
        for kind in ("params", "tags"):
            self.server.accepted += [(kind, e["key"], e["value"]) for e in asked.get(kind, [])]
        if path.endswith("set-tag"):
            self.server.accepted.append(("tags", asked["key"], asked["value"]))
        if asked.get("status"):
            self.server.accepted.append(("status", asked["status"]))
        return {"run_info": run["info"]}

    def _say(self, status, answer):
        text = json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except OSError:
            pass  # who asked did not wait
