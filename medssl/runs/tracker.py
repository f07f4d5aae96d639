"""What a stage tells about its run: kept in the run folder at once, sent by a thread."""

import logging
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from medssl.runs.spool import Spool

_log = logging.getLogger(__name__)

_LINGER_S = 0.5
_LONGEST_BACKOFF_S = 60.0
_CLOSE_WAIT_S = 60.0
_CLOSE_WAIT_FAILING_S = 15.0
_LONGEST_PARAM = 500  # what every MLflow server of the last years accepts
_LONGEST_TAG = 5000
_LONGEST_NAME = 250


class Sender(Protocol):
    """Takes the events of one spool elsewhere."""

    spool: Spool
    where: str
    """What it sends to, in words, without credentials."""
    abandoned: bool
    """Set when nobody waits any longer: stop after the events at hand."""

    def run_id(self) -> str | None:
        """Return the run's id elsewhere, once there is one."""

    def send_all(self) -> None:
        """Send what is unsent, oldest first; raise whatever goes wrong."""


class Tracker:
    """Accepts what is to be recorded and drops it: tracking is off, or this is not rank 0."""

    run_id: str | None = None

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings; values are cut to 500 characters."""

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record numbers at ``step``."""

    def log_file(self, path: Path, folder: str = "") -> None:
        """Record a copy of the file ``path`` under ``folder``; it is read when it is sent."""

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Record short facts that may change."""

    def close(self, status: str = "FINISHED") -> None:
        """End the run: FINISHED, FAILED or KILLED; wait a bounded time for what is unsent."""


class SpoolingTracker(Tracker):
    """Writes every event to the run folder at once; one thread sends them on."""

    def __init__(self, sender: Sender) -> None:
        self._sender, self._spool = sender, sender.spool
        self._steps_before = self._spool.last_steps()
        self._wake, self._closing, self._failing = (threading.Event() for _ in range(3))
        self._append(status="RUNNING")
        self._thread = threading.Thread(target=self._work, name="medssl-tracking", daemon=True)
        self._thread.start()

    @property
    def run_id(self) -> str | None:  # type: ignore[override]
        """The run's id elsewhere, once there is one."""
        return self._sender.run_id()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings; values are cut to 500 characters."""
        self._append(params={_name(key): _cut(params[key], _LONGEST_PARAM) for key in params})

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record numbers at ``step``; a resumed run does not repeat the steps it had recorded."""
        new = {_name(key): float(value) for key, value in metrics.items()}
        if step > 0:
            new = {key: new[key] for key in new if step > self._steps_before.get(key, 0)}
        if new:
            self._append(metrics=new, step=int(step))

    def log_file(self, path: Path, folder: str = "") -> None:
        """Record a copy of the file ``path`` under ``folder``; it is read when it is sent."""
        relative = os.path.relpath(path, self._spool.folder)  # so that run folders can be moved
        self._append(file=relative, to=folder)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Record short facts that may change."""
        self._append(tags={_name(key): _cut(tags[key], _LONGEST_TAG) for key in tags})

    def close(self, status: str = "FINISHED") -> None:
        """End the run; wait a bounded time for what is unsent, which stays in the folder."""
        self._append(status=status)
        self._closing.set()
        deadline = time.monotonic() + _CLOSE_WAIT_S
        soon = time.monotonic() + _CLOSE_WAIT_FAILING_S
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(timeout=0.1)
            if self._failing.is_set() and time.monotonic() > soon:
                break
        self._sender.abandoned = self._thread.is_alive()
        if not self._sender.abandoned:
            self._spool.close()

    def _append(self, **event: Any) -> None:
        try:
            self._spool.append({"time_ms": int(time.time() * 1000), **event})
        except OSError as error:
            _warn_once("disk", "The run's record cannot be kept (%s); the work goes on.", error)
        self._wake.set()

    def _work(self) -> None:
        backoff_s = 1.0
        while True:
            self._wake.wait()
            self._closing.wait(_LINGER_S)  # so that many small events travel together
            self._wake.clear()
            last = self._closing.is_set()
            try:
                self._sender.send_all()
            except Exception as error:  # noqa: BLE001 - whatever the server does, the work goes on
                self._failing.set()
                self._warn(error)
                if last:
                    return
                self._closing.wait(backoff_s)
                backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
                self._wake.set()
            else:
                self._failing.clear()
                backoff_s = 1.0
                if last:
                    return

    def _warn(self, error: Exception) -> None:
        """Say it once per store and process; the error's text may quote what was sent."""
        _warn_once(
            self._sender.where,
            "%s cannot be reached (%s). The work goes on; its record is kept in the run folder and"
            " sent when the same command is run again, or by: medssl doctor --send-spool DIR",
            self._sender.where,
            type(error).__name__,
        )


_warned: set[str] = set()


def _warn_once(about: str, message: str, *values: Any) -> None:
    if about not in _warned:
        _warned.add(about)
        _log.warning(message, *values)


def _name(key: str) -> str:
    """Return ``key`` with only the characters that a tracking server takes in a name."""
    return re.sub(r"[^\w\-. /:]", "_", key, flags=re.ASCII)[:_LONGEST_NAME]


def _cut(value: Any, longest: int) -> str:
    text = str(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
