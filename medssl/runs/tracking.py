"""Record runs in MLflow. Tracking never stops or delays the work."""

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from medssl.runs.destination import Destination, TrackingConfig, artifacts_of, destination
from medssl.runs.environment import rank
from medssl.runs.mlflow.connection import store_problem
from medssl.runs.mlflow.sender import MlflowSender, child_sender, describe_spool
from medssl.runs.spool import Spool
from medssl.runs.tracker import RunPlace, SpoolingTracker, Tracker, note_answer, patience_s

__all__ = [
    "Destination",
    "RunPlace",
    "Tracker",
    "TrackingConfig",
    "child_run",
    "nested_in",
    "open_tracker",
    "parent_run",
    "recorded_at",
    "send_leftovers",
    "send_spools",
    "store_problem",
]

_log = logging.getLogger(__name__)

_LEFTOVERS_WAIT_S = 15.0
_PARENT: ContextVar[RunPlace | None] = ContextVar("parent", default=None)
_OPENED: ContextVar[list[Path] | None] = ContextVar("opened", default=None)
"""Spools of the stages of the pipeline under way, to send at its end what could not be sent."""
_SILENT: ContextVar[bool] = ContextVar("silent", default=False)
_SPOOLS = "tracking"


def open_tracker(
    name: str, folder: Path, key: str, config: TrackingConfig, tags: Mapping[str, str]
) -> Tracker:
    """Return the tracker of the run ``name`` in ``folder``, nested under the current parent.

    The same ``folder`` and ``key`` continue the same MLflow run.
    """
    parent = _PARENT.get()
    if not config.enabled or _SILENT.get() or rank() > 0:
        return Tracker()
    to = parent.to if parent else destination(config, folder)
    above = parent.spool if parent else None
    spool = describe_spool(Path(folder) / _SPOOLS / key, name, to, above, tags)
    opened = _OPENED.get()
    if opened is not None:
        opened.append(spool.folder)
    return SpoolingTracker(MlflowSender(spool, to), config.system_every_s)


def child_run(
    place: RunPlace | None, name: str, key: str, tags: Mapping[str, str] | None = None
) -> Tracker:
    """Open a run under the one kept at ``place``, which another process may have opened.

    Within one process ``tracker.child`` does the same; ``place`` is that tracker's ``place``.
    """
    if place is None or rank() > 0:
        return Tracker()
    return SpoolingTracker(child_sender(place, name, key, dict(tags or {})))


@contextmanager
def nested_in(place: RunPlace | None) -> Iterator[None]:
    """Let whole stages of the block nest under the run kept at ``place``; None: untracked."""
    parent, silent = _PARENT.set(place), _SILENT.set(place is None)
    try:
        yield
    finally:
        _SILENT.reset(silent)
        _PARENT.reset(parent)


@contextmanager
def parent_run(name: str, folder: Path, key: str, config: TrackingConfig) -> Iterator[Tracker]:
    """Open the run ``name``, under which every stage nests until the end of the block.

    Where ``config`` goes, the stages' records go; switched off, they are not tracked either.
    What a stage could not send, because the server was away for a while, is sent at the end.
    """
    if not config.enabled or rank() > 0:
        with nested_in(None):
            yield Tracker()
        return
    to = destination(config, Path(folder) / "stage")
    tags = {"medssl.stage": "pipeline"}
    spool = describe_spool(Path(folder) / _SPOOLS / key, name, to, None, tags)
    opened: list[Path] = []
    token = _OPENED.set(opened)
    try:
        with SpoolingTracker(MlflowSender(spool, to)) as tracker, nested_in(tracker.place):
            yield tracker
    finally:
        _OPENED.reset(token)
        if not spool.pending():  # the server is there
            _send_in_background([path for stage in opened for path in _described(stage)], to)


def recorded_at(folder: Path) -> Destination | None:
    """Return where the stage in ``folder`` was recorded; None where it was not, or is gone.

    A stage of a pipeline is recorded where the pipeline is. MLFLOW_TRACKING_URI counts more.
    """
    for described in sorted((Path(folder) / _SPOOLS).glob("*/run.json")):
        to = _target(Spool(described.parent), None)
        database = to.uri.removeprefix("sqlite:///")
        if database == to.uri or Path(database).is_file():
            return to
    return None


def send_spools(folder: Path, uri: str | None = None) -> tuple[int, int]:
    """Send what runs in ``folder`` and below could not send; return (sent, still unsent) runs.

    It goes to ``uri``, else to MLFLOW_TRACKING_URI, else where each run was to go.
    """
    return _send_pending(sorted(Path(folder).rglob(f"{_SPOOLS}/*/run.json")), uri)


def send_leftovers(folder: Path, config: TrackingConfig) -> None:
    """Send what earlier runs of the stage in ``folder`` could not; wait a few seconds at most."""
    if config.enabled:
        _send_in_background(sorted((Path(folder) / _SPOOLS).glob("*/run.json")), config.uri)


def _described(spool: Path) -> list[Path]:
    """Return the runs of one stage: its own and those it opened under it."""
    return sorted(spool.parent.glob(f"{spool.name}*/run.json"))


def _send_in_background(described: list[Path], to: Destination | str | None) -> None:
    waiting = [path for path in described if Spool(path.parent).pending()]
    if waiting:
        spool = Spool(waiting[0].parent)
        where = MlflowSender(spool, _target(spool, to)).where
        sending = threading.Thread(target=_send_pending, args=(waiting, to), daemon=True)
        sending.start()
        sending.join(timeout=patience_s(where, _LEFTOVERS_WAIT_S))


def _send_pending(described: list[Path], to: Destination | str | None) -> tuple[int, int]:
    sent = unsent = 0
    for path in described:
        spool = Spool(path.parent)
        if not spool.pending():
            continue
        sender = MlflowSender(spool, _target(spool, to))
        try:
            sender.send_all()
        except Exception as error:  # noqa: BLE001 - whatever MLflow does, the next run is tried
            _log.warning("%s did not take a run (%s)", sender.where, type(error).__name__)
            note_answer(sender.where, fine=False)
            unsent += 1
        else:
            note_answer(sender.where, fine=True)
            spool.close()
            sent += 1
    return sent, unsent


def _target(spool: Spool, to: Destination | str | None) -> Destination:
    if isinstance(to, Destination):
        return to
    identity = spool.identity
    given = to or os.environ.get("MLFLOW_TRACKING_URI")
    root = artifacts_of(given) if given else identity["artifact_root"]
    return Destination(given or identity["uri"], identity["experiment"], root)
