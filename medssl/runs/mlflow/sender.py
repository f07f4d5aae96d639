"""A run's spooled events to MLflow, in order; sending one twice does no harm."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from medssl.runs.destination import Destination
from medssl.runs.mlflow.connection import connect, experiment_id, status_of
from medssl.runs.mlflow.models import log_model
from medssl.runs.model_package import ModelPackage
from medssl.runs.names import accepted_value
from medssl.runs.spool import Event, Spool, slug
from medssl.runs.tracker import RunPlace

_log = logging.getLogger(__name__)

_BATCH = {"metrics": 900, "params": 90, "tags": 90}
_REFUSED = {"INVALID_PARAMETER_VALUE", "MALFORMED_REQUEST"}
_REFUSED_OR_TROUBLED = {"BAD_REQUEST"}
"""What MLflow makes of any error of its database: one that cannot write, or a value it hates."""
_WRITE_CHECK = "medssl.write_check"
_RUN_KEY = "medssl.run_key"
"""Drawn before the run is created: who was killed, or heard no answer, finds it again by this."""
_TOO_LARGE = 413
_LONGEST_DATASET_DIGEST, _LONGEST_DATASET_NAME = 36, 500


class MlflowSender:
    """Sends a spool's events to MLflow; raises whatever MLflow raises."""

    def __init__(self, spool: Spool, to: Destination) -> None:
        self.spool, self.to, self.abandoned = spool, to, False
        self.where = f"The MLflow store {to.shown}"
        self._client: Any = None

    @property
    def place(self) -> RunPlace:
        """Where this run is kept: what a run under it must know."""
        return RunPlace(self.spool.folder, self.to)

    def run_id(self) -> str | None:
        """Return the MLflow run's id, once it was created."""
        return self.spool.remote_id(self.to.shown)

    def child(self, name: str, key: str, tags: Mapping[str, str]) -> "MlflowSender":
        """Return the sender of a run under this one; the same ``key`` is the same run."""
        return child_sender(self.place, name, key, tags)

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
        from mlflow.exceptions import MlflowException

        self._client = connect(self.to.uri)
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
            self._send_other(run_id, event)
            if "status" in event:
                self._flush(run_id, waiting)
                self._set_status(run_id, event)
        self._flush(run_id, waiting)

    def _send_other(self, run_id: str, event: Event) -> None:
        """Send what is not a number, a setting or a tag; leave out what is refused for good."""
        from mlflow.exceptions import MlflowException

        try:
            if "file" in event:
                self._send_file(run_id, self.spool.folder / event["file"], event["to"] or None)
            if "dataset" in event:
                self._client.log_inputs(run_id, datasets=[_dataset_input(event["dataset"])])
            if "model" in event:
                self._send_model(run_id, event["name"], event["model"], event["package"])
        except MlflowException as error:
            if error.error_code not in _REFUSED:
                raise
            kind = next(kind for kind in ("file", "dataset", "model") if kind in event)
            _log.warning("%s refused a %s (%s)", self.where, kind, error.error_code)

    def _send_model(self, run_id: str, name: str, place: str, facts: dict[str, Any]) -> None:
        folder, package = self.spool.folder / place, ModelPackage.read(facts)
        if package is None or not all((folder / file).is_file() for file in package.files):
            _log.warning("A model is not recorded: its files are gone, or of another version")
        else:
            log_model(self._client, run_id, name, folder, package)

    def _send_file(self, run_id: str, path: Path, folder: str | None) -> None:
        if not path.is_file():
            return
        try:
            self._client.log_artifact(run_id, str(path), folder)
        except Exception as error:
            if status_of(error) != _TOO_LARGE:
                raise
            _log.warning("%s does not take a file as large as %s", self.where, path.name)

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
            if error.error_code not in _REFUSED | _REFUSED_OR_TROUBLED:
                raise
            if len(entities) == 1:
                self._drop(run_id, kind, entities[0], error)
                return
            middle = len(entities) // 2
            self._log_batch(run_id, kind, entities[:middle])
            self._log_batch(run_id, kind, entities[middle:])

    def _drop(self, run_id: str, kind: str, entity: Any, error: Any) -> None:
        """Leave ``entity`` out, once it is sure that it is refused, and not all that is written."""
        if error.error_code in _REFUSED_OR_TROUBLED:
            self._client.set_tag(run_id, _WRITE_CHECK, str(time.time_ns()))
        _log.debug("MLflow refused %s of %s", kind, entity.key)

    def _run(self, spool: Spool) -> str:
        """Return the id of the spool's run, after creating it, and its parent, if need be."""
        run_id = spool.remote_id(self.to.shown)
        if run_id:
            return run_id
        with _alone(spool.folder):
            return spool.remote_id(self.to.shown) or self._create(spool)

    def _create(self, spool: Spool) -> str:
        identity = spool.identity
        tags = dict(identity["tags"])
        if identity["parent"]:
            parent = Spool(spool.folder / identity["parent"])
            if parent.identity:
                tags["mlflow.parentRunId"] = self._run(parent)
        experiment = experiment_id(self._client, self.to)
        alike = f"tags.`{_RUN_KEY}` = '{tags.get(_RUN_KEY)}'"
        created = self._client.search_runs([experiment], alike, max_results=1)
        run = (
            created[0]
            if created
            else self._client.create_run(
                experiment, start_time=identity["time_ms"], tags=tags, run_name=identity["name"]
            )
        )
        spool.set_remote_id(self.to.shown, run.info.run_id)
        return str(run.info.run_id)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other threads and processes, children of the same run, from creating it once more."""
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def describe_spool(
    folder: Path, name: str, to: Destination, parent: Path | None, tags: Mapping[str, str]
) -> Spool:
    """Return the spool of the run ``name`` in ``folder``, with what it is if that is new."""
    spool = Spool(folder)
    if not spool.identity:
        spool.describe(
            {
                "name": name,
                "tags": {**tags, _RUN_KEY: uuid4().hex},
                "time_ms": int(time.time() * 1000),
                "uri": to.shown,
                "experiment": to.experiment,
                "artifact_root": to.artifact_root,
                "parent": os.path.relpath(parent, folder) if parent else None,
            }
        )
    return spool


def child_sender(place: RunPlace, name: str, key: str, tags: Mapping[str, str]) -> MlflowSender:
    """Return the sender of the run ``key`` under the one kept at ``place``, of the same stage."""
    above = Spool(place.spool).identity.get("tags", {})
    tags = {key: above[key] for key in ("medssl.stage",) if key in above} | dict(tags)
    folder = place.spool.parent / f"{place.spool.name}.{slug(key)}"
    return MlflowSender(describe_spool(folder, name, place.to, place.spool, tags), place.to)


def _entities(event: Event) -> dict[str, list[Any]]:
    from mlflow.entities import Metric, Param, RunTag

    at, step = event["time_ms"], event.get("step", 0)
    return {
        "metrics": [Metric(k, v, at, step) for k, v in event.get("metrics", {}).items()],
        "params": [Param(k, v) for k, v in event.get("params", {}).items()],
        "tags": [RunTag(k, v) for k, v in event.get("tags", {}).items()],
    }


def _dataset_input(facts: Mapping[str, str]) -> Any:
    """Return an input of a run: its source is a name and the whole digest, never a path."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.entities import Dataset, DatasetInput, InputTag

    name = accepted_value(facts["name"], _LONGEST_DATASET_NAME)
    whole = {"name": name, "sha256": facts["digest"]}
    source = CodeDatasetSource(tags=whole)
    dataset = Dataset(
        name=name,
        digest=facts["digest"][:_LONGEST_DATASET_DIGEST],
        source_type=source._get_source_type(),
        source=source.to_json(),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", facts["context"])])
