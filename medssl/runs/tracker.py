"""What a stage tells about its run: kept in the run folder at once, sent by a thread."""

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from medssl.errors import PreemptedError
from medssl.runs.destination import Destination
from medssl.runs.model_package import ModelPackage
from medssl.runs.names import LONGEST_PARAM, LONGEST_TAG, accepted_names, accepted_value
from medssl.runs.spool import Spool
from medssl.runs.system import SystemSampler

_log = logging.getLogger(__name__)

_LINGER_S = 0.5
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 1.0, 60.0
_CLOSE_WAIT_S = 30.0
_CLOSE_WAIT_FAILING_S = 2.0


@dataclass(frozen=True)
class RunPlace:
    """Where a tracked run is kept; it can be handed to another process."""

    spool: Path
    to: Destination


class Sender(Protocol):
    """Takes the events of one spool elsewhere."""

    spool: Spool
    where: str
    """What it sends to, in words, without credentials."""
    abandoned: bool
    """Set when nobody waits any longer: stop after the events at hand."""

    @property
    def place(self) -> RunPlace:
        """Where the run is kept."""

    def run_id(self) -> str | None:
        """Return the run's id elsewhere, once there is one."""

    def child(self, name: str, key: str, tags: Mapping[str, str]) -> "Sender":
        """Return the sender of a run under this one."""

    def send_all(self) -> None:
        """Send what is unsent, oldest first; raise whatever goes wrong."""


class Tracker:
    """Accepts what is to be recorded and drops it: tracking is off, or this is not rank 0."""

    run_id: str | None = None
    place: RunPlace | None = None
    """What a run in another process must know to nest under this one."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings; values are cut to 500 characters, and then end with a digest."""

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record numbers at ``step``."""

    def log_file(self, path: Path, folder: str = "") -> None:
        """Record a copy of the file ``path`` under ``folder``; it is read when it is sent."""

    def log_dataset(self, name: str, digest: str, context: str = "training") -> None:
        """Record what the run reads: its name and digest, never where it lies."""

    def log_model(self, name: str, folder: Path, package: ModelPackage) -> None:
        """Record the model in ``folder``, which is read when it is sent."""

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Record short facts that may change."""

    def child(self, name: str, key: str, tags: Mapping[str, str] | None = None) -> "Tracker":
        """Open a run under this one, to be closed by the caller, best as a context manager.

        The same ``key`` is the same run, also when the work is resumed in another process.
        """
        return Tracker()

    def close(self, status: str = "FINISHED") -> None:
        """End the run: FINISHED, FAILED or KILLED; wait a bounded time for what is unsent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failed = isinstance(error, Exception) and not isinstance(error, PreemptedError)
        self.close("FINISHED" if error is None else "FAILED" if failed else "KILLED")


class SpoolingTracker(Tracker):
    """Writes every event to the run folder at once; one thread sends them on."""

    def __init__(self, sender: Sender, system_every_s: float = 0) -> None:
        self._sender, self._spool = sender, sender.spool
        self._steps_before = self._spool.last_steps()
        self._wake, self._closing = (threading.Event() for _ in range(2))
        self._append(status="RUNNING")
        self._thread = threading.Thread(target=self._work, name="medssl-tracking", daemon=True)
        self._thread.start()
        self._sampler = SystemSampler(self.log_metrics, system_every_s, self._steps_before)
        self._sampler.start()

    @property
    def run_id(self) -> str | None:  # type: ignore[override]
        """The run's id elsewhere, once there is one."""
        return self._sender.run_id()

    @property
    def place(self) -> RunPlace:  # type: ignore[override]
        """What a run in another process must know to nest under this one."""
        return self._sender.place

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings; values are cut to 500 characters, and then end with a digest."""
        self._append(params=_accepted(params, LONGEST_PARAM))

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record numbers at ``step``; a resumed run does not repeat the steps it had recorded."""
        names = accepted_names(metrics)
        new = {names[key]: float(value) for key, value in metrics.items()}
        if step > 0:
            new = {key: new[key] for key in new if step > self._steps_before.get(key, 0)}
        if new:
            self._append(metrics=new, step=int(step))

    def log_file(self, path: Path, folder: str = "") -> None:
        """Record a copy of the file ``path`` under ``folder``; it is read when it is sent."""
        self._append(file=self._relative(path), to=folder)

    def log_dataset(self, name: str, digest: str, context: str = "training") -> None:
        """Record what the run reads: its name and digest, never where it lies."""
        self._append(dataset={"name": str(name), "digest": str(digest), "context": context})

    def log_model(self, name: str, folder: Path, package: ModelPackage) -> None:
        """Record the model in ``folder``, which is read when it is sent."""
        facts = dataclasses.asdict(package)
        self._append(model=self._relative(folder), name=name, package=facts)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Record short facts that may change."""
        self._append(tags=_accepted(tags, LONGEST_TAG))

    def child(self, name: str, key: str, tags: Mapping[str, str] | None = None) -> Tracker:
        """Open a run under this one, to be closed by the caller, best as a context manager.

        The same ``key`` is the same run, also when the work is resumed in another process.
        """
        return SpoolingTracker(self._sender.child(name, key, _accepted(tags or {}, LONGEST_TAG)))

    def close(self, status: str = "FINISHED") -> None:
        """End the run; wait a bounded time for what is unsent, which stays in the folder."""
        self._sampler.stop()
        self._append(status=status)
        self._closing.set()
        start = time.monotonic()
        while self._thread.is_alive():
            if time.monotonic() - start > patience_s(self._sender.where, _CLOSE_WAIT_S):
                break
            self._thread.join(timeout=0.1)
        self._sender.abandoned = self._thread.is_alive()
        if not self._sender.abandoned:
            self._spool.close()

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, self._spool.folder)  # so that run folders can be moved

    def _append(self, **event: Any) -> None:
        try:
            self._spool.append({"time_ms": int(time.time() * 1000), **event})
        except OSError as error:
            _warn_once("disk", "The run's record cannot be kept (%s); the work goes on.", error)
        self._wake.set()

    def _work(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            self._wake.wait()
            self._closing.wait(_LINGER_S)  # so that many small events travel together
            self._wake.clear()
            last = self._closing.is_set()
            try:
                self._sender.send_all()
            except Exception as error:  # noqa: BLE001 - whatever the server does, the work goes on
                note_answer(self._sender.where, fine=False)
                self._warn(error)
                if last:
                    return
                self._closing.wait(backoff_s)
                backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
                self._wake.set()
            else:
                note_answer(self._sender.where, fine=True)
                backoff_s = _FIRST_BACKOFF_S
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
_troubled: set[str] = set()
"""Stores whose last answer was a failure: no run of this process waits for them any more."""


def note_answer(where: str, *, fine: bool) -> None:
    """Remember whether a store took what it was sent."""
    (_troubled.discard if fine else _troubled.add)(where)


def patience_s(where: str, usual_s: float) -> float:
    """Return how long to wait for a store: not long, where it just failed."""
    return _CLOSE_WAIT_FAILING_S if where in _troubled else usual_s


def _warn_once(about: str, message: str, *values: Any) -> None:
    if about not in _warned:
        _warned.add(about)
        _log.warning(message, *values)


def _accepted(facts: Mapping[str, Any], longest: int) -> dict[str, str]:
    names = accepted_names(facts)
    return {names[key]: accepted_value(value, longest) for key, value in facts.items()}
