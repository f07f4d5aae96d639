"""Record runs in MLflow; the only file that knows it. Tracking never stops or delays the work."""

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from medssl.runs.destination import Destination, TrackingConfig, destination
from medssl.runs.environment import rank
from medssl.runs.spool import Event, Spool
from medssl.runs.tracker import SpoolingTracker, Tracker

__all__ = [
    "Destination",
    "Tracker",
    "TrackingConfig",
    "open_tracker",
    "parent_run",
    "send_leftovers",
    "send_spools",
    "store_problem",
]

_log = logging.getLogger(__name__)

_BATCH = {"metrics": 900, "params": 90, "tags": 90}
"""Environment variables that keep MLflow, and others that heed them, from reporting home."""

_UNLESS_SET = {
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
_REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST"}


class MlflowSender:
    """Sends a spool's events to MLflow; raises whatever MLflow raises."""

    _creating = threading.Lock()

    def __init__(self, spool: Spool, to: Destination) -> None:
        self.spool, self.to, self.abandoned = spool, to, False
        self.where = f"The MLflow store {to.shown}"
        self._client: Any = None

    def run_id(self) -> str | None:
        """Return the MLflow run's id, once it was created."""
        return self.spool.remote_id(self.to.shown)

    def send_all(self) -> None:
        """Send what is unsent, oldest first."""
        while self.spool.pending() and not self.abandoned:
            events, offset = self.spool.next_events()
            if offset == self.spool.offset:  # a line cut short by a kill is all there is
                return
            if events:
                self._send(events)
            self.spool.mark_sent(events, offset)

    def _send(self, events: list[Event]) -> None:
        self._client = _client(self.to.uri)
        from mlflow.exceptions import MlflowException

        run_id = self._run(self.spool)
        try:
            self._send_to(run_id, events)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self.spool.set_remote_id("", "")  # somebody deleted the run: the rest gets a new one
            self._send_to(self._run(self.spool), events)

    def _send_to(self, run_id: str, events: list[Event]) -> None:
        waiting: dict[str, list[Any]] = {"metrics": [], "params": [], "tags": []}
        for event in events:
            for kind, entities in _entities(event).items():
                for entity in entities:
                    waiting[kind].append(entity)
                    if len(waiting[kind]) >= _BATCH[kind]:
                        self._flush(run_id, waiting)
            if "file" in event:
                path = self.spool.folder / event["file"]
                if path.is_file():
                    self._client.log_artifact(run_id, str(path), event["to"] or None)
            if "status" in event:
                self._flush(run_id, waiting)
                self._set_status(run_id, event)
        self._flush(run_id, waiting)

    def _set_status(self, run_id: str, event: Event) -> None:
        if event["status"] == "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
        else:
            self._client.set_terminated(run_id, event["status"], event["time_ms"])

    def _flush(self, run_id: str, waiting: dict[str, list[Any]]) -> None:
        for kind in ("params", "tags"):  # a key may stand only once in a request; the last counts
            waiting[kind] = list({entity.key: entity for entity in waiting[kind]}.values())
        for kind, entities in waiting.items():
            self._log_batch(run_id, kind, entities)
            entities.clear()

    def _log_batch(self, run_id: str, kind: str, entities: list[Any]) -> None:
        """Send ``entities``, without those that no server would take, as a changed parameter."""
        from mlflow.exceptions import MlflowException

        if not entities:
            return
        try:
            self._client.log_batch(run_id, **{kind: entities}, synchronous=True)
        except MlflowException as error:
            if error.error_code not in _REFUSED:
                raise
            if len(entities) == 1:
                _log.debug("MLflow refused %s of %s", kind, entities[0].key)
                return
            middle = len(entities) // 2
            self._log_batch(run_id, kind, entities[:middle])
            self._log_batch(run_id, kind, entities[middle:])

    def _run(self, spool: Spool) -> str:
        """Return the id of the spool's run, after creating it, and its parent, if need be."""
        with self._creating:
            return self._run_unlocked(spool)

    def _run_unlocked(self, spool: Spool) -> str:
        run_id = spool.remote_id(self.to.shown)
        if run_id:
            return run_id
        identity = spool.identity
        tags = dict(identity["tags"])
        if identity["parent"]:
            parent = Spool(spool.folder / identity["parent"])
            if parent.identity:
                tags["mlflow.parentRunId"] = self._run_unlocked(parent)
        experiment = _experiment_id(self._client, self.to)
        run = self._client.create_run(
            experiment, start_time=identity["time_ms"], tags=tags, run_name=identity["name"]
        )
        spool.set_remote_id(self.to.shown, run.info.run_id)
        return str(run.info.run_id)


_CONNECTING = threading.Lock()
_CLIENTS: dict[str, Any] = {}


def _client(uri: str) -> Any:
    """Return the client of ``uri``; one thread at a time imports mlflow or makes a database."""
    for variable, value in _UNLESS_SET.items():
        os.environ.setdefault(variable, value)
    with _CONNECTING:
        if uri not in _CLIENTS:
            _CLIENTS[uri] = _connect(uri)
        return _CLIENTS[uri]


def _connect(uri: str) -> Any:
    from mlflow.telemetry import set_telemetry_client
    from mlflow.tracking import MlflowClient

    # anew, since mlflow may have been imported before medssl, which forbids its telemetry
    set_telemetry_client()  # type: ignore[no-untyped-call]
    for chatty in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri)


def _experiment_id(client: Any, to: Destination) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(to.experiment)
    if found is None:
        try:
            return str(client.create_experiment(to.experiment, artifact_location=to.artifact_root))
        except MlflowException as error:  # another process was first
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(to.experiment)
    return str(found.experiment_id)


def _entities(event: Event) -> dict[str, list[Any]]:
    from mlflow.entities import Metric, Param, RunTag

    at, step = event["time_ms"], event.get("step", 0)
    return {
        "metrics": [Metric(k, v, at, step) for k, v in event.get("metrics", {}).items()],
        "params": [Param(k, v) for k, v in event.get("params", {}).items()],
        "tags": [RunTag(k, v) for k, v in event.get("tags", {}).items()],
    }


_LEFTOVERS_WAIT_S = 60.0
_PARENT: ContextVar[tuple[Spool, Destination] | None] = ContextVar("parent", default=None)
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
    to = parent[1] if parent else destination(config, folder)
    return SpoolingTracker(MlflowSender(_spool(name, folder, key, to, tags), to))


def _spool(name: str, folder: Path, key: str, to: Destination, tags: Mapping[str, str]) -> Spool:
    spool = Spool(Path(folder) / _SPOOLS / key)
    parent = _PARENT.get()
    if not spool.identity:
        spool.describe(
            {
                "name": name,
                "tags": dict(tags),
                "time_ms": int(time.time() * 1000),
                "uri": to.shown,
                "experiment": to.experiment,
                "artifact_root": to.artifact_root,
                "parent": os.path.relpath(parent[0].folder, spool.folder) if parent else None,
            }
        )
    return spool


@contextmanager
def parent_run(name: str, folder: Path, key: str, config: TrackingConfig) -> Iterator[Tracker]:
    """Open the run ``name``, under which every stage nests until the end of the block.

    Where ``config`` goes, the stages' records go; switched off, they are not tracked either.
    """
    if not config.enabled or rank() > 0:
        silence = _SILENT.set(True)
        try:
            yield Tracker()
        finally:
            _SILENT.reset(silence)
        return
    to = destination(config, Path(folder) / "stage")
    spool = _spool(name, folder, key, to, {"medssl.stage": "pipeline"})
    tracker = SpoolingTracker(MlflowSender(spool, to))
    token = _PARENT.set((spool, to))
    status = "KILLED"
    try:
        yield tracker
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        _PARENT.reset(token)
        tracker.close(status)


def send_spools(folder: Path, uri: str | None = None) -> tuple[int, int]:
    """Send what runs in ``folder`` and below could not send; return (sent, still unsent) runs.

    It goes to ``uri``, else to MLFLOW_TRACKING_URI, else where each run was to go.
    """
    return _send_pending(sorted(Path(folder).rglob(f"{_SPOOLS}/*/run.json")), uri)


def send_leftovers(folder: Path, config: TrackingConfig) -> None:
    """Send what earlier runs of the stage in ``folder`` could not; wait a few seconds at most."""
    described = sorted((Path(folder) / _SPOOLS).glob("*/run.json"))
    if config.enabled and any(Spool(path.parent).pending() for path in described):
        sending = threading.Thread(target=_send_pending, args=(described, config.uri), daemon=True)
        sending.start()
        sending.join(timeout=_LEFTOVERS_WAIT_S)


def _send_pending(described: list[Path], uri: str | None) -> tuple[int, int]:
    sent = unsent = 0
    for path in described:
        spool = Spool(path.parent)
        if not spool.pending():
            continue
        identity = spool.identity
        given = uri or os.environ.get("MLFLOW_TRACKING_URI")
        root = None if given else identity["artifact_root"]
        to = Destination(given or identity["uri"], identity["experiment"], root)
        sender = MlflowSender(spool, to)
        try:
            sender.send_all()
        except Exception as error:  # noqa: BLE001 - whatever MLflow does, the next run is tried
            _log.warning("%s did not take a run (%s)", sender.where, type(error).__name__)
            unsent += 1
        else:
            spool.close()
            sent += 1
    return sent, unsent


def store_problem(to: Destination) -> str | None:
    """Return why the store ``to`` cannot be used, in a few words, or None where it can."""
    try:
        _client(to.uri).search_experiments(max_results=1)
    except Exception as error:  # noqa: BLE001 - MLflow and what is below it raise anything
        return f"does not answer ({type(error).__name__})"
    return None
