"""Open a stage's folder: start, resume, or hand back what is already there."""

import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.config.base import Config
from medssl.errors import FolderError, PreemptedError
from medssl.runs.digest import digest_json
from medssl.runs.environment import describe, rank
from medssl.runs.folder import sweep_partial
from medssl.runs.manifest import Manifest, Summary, now
from medssl.runs.private import read_config, without_private, write_config
from medssl.runs.provenance import record_provenance
from medssl.runs.tracking import Tracker, TrackingConfig, open_tracker, send_leftovers

_LOCK = ".lock"
_NOT_COMPARED = (
    "tracking", "workers", "follow", "repair", "staging_gib", "create_key",
    "study.workers", "loader.workers", "loader.worker_kind", "engine.devices", "engine.strategy",
    "engine.requeue", "montage", "plan",
)  # fmt: skip
# They change where and how fast, never the result
_MOST_CHANGES_SHOWN = 12
_LARGEST_ARTIFACT_BYTES = 50_000_000


@dataclass(frozen=True)
class StageResult:
    """What a stage did and where a person should look."""

    stage: str
    folder: Path
    summary: Summary
    look_at: dict[str, str]
    """Label -> path relative to ``folder``."""
    skipped: bool = False
    """Whether the folder already held the result of the same configuration and inputs."""


@dataclass
class StageRun:
    """A stage under way."""

    stage: str
    folder: Path
    tracker: Tracker = field(default_factory=Tracker)
    previous: StageResult | None = None
    """The finished result of the same configuration and inputs: return it."""
    resumed: bool = False
    """Whether an unfinished run of the same configuration and inputs is to be continued."""
    _manifest: Manifest | None = None

    def finish(
        self,
        *,
        summary: Summary,
        look_at: Mapping[str, str] | None = None,
        stays: Collection[str] = (),
        outputs: Mapping[str, str] | None = None,
    ) -> StageResult:
        """Record the result.

        Args:
            summary: what was done, in numbers.
            look_at: label -> a file's path relative to the folder.
            stays: paths of ``look_at`` that are not sent to MLflow: what shows patients.
            outputs: name -> digest of what was made.
        """
        result = StageResult(self.stage, self.folder, dict(summary), dict(look_at or {}))
        if self._manifest is None:  # not rank 0
            return result
        self._manifest.outputs = dict(outputs or {})
        self._manifest.summary, self._manifest.look_at = result.summary, result.look_at
        self._manifest.status, self._manifest.finished_at = "finished", now()
        self._manifest.write(self.folder)
        sent = [path for path in result.look_at.values() if path not in stays]
        self._track(result, self._manifest.outputs, sent)
        return result

    def _track(self, result: StageResult, outputs: Mapping[str, str], sent: Sequence[str]) -> None:
        numbers = {
            f"summary/{k}": float(v) for k, v in result.summary.items() if not isinstance(v, str)
        }  # apart from the curves of the same name
        self.tracker.log_metrics(numbers)
        self.tracker.set_tags({k: v for k, v in result.summary.items() if isinstance(v, str)})
        self.tracker.set_tags({f"output.{name}": digest for name, digest in outputs.items()})
        for path in sent:
            file = self.folder / path
            if file.is_file() and file.stat().st_size <= _LARGEST_ARTIFACT_BYTES:
                self.tracker.log_file(file, "look_at")
        self.tracker.log_file(self.folder / "manifest.json")


@contextmanager
def open_stage(
    stage: str,
    folder: Path,
    config: Config,
    *,
    inputs: Mapping[str, str],
    tracking: TrackingConfig,
    overwrite: bool = False,
    incremental: bool = False,
) -> Iterator[StageRun]:
    """Yield the run of ``stage`` in ``folder``; on an exception it is recorded as failed.

    ``inputs`` maps a name to the digest of what is read. A finished run of the same ``config``
    and ``inputs`` is handed back as ``previous``; an unfinished one is ``resumed``, in the same
    MLflow run. Something else is an error, unless ``overwrite`` empties the folder first, or
    ``incremental`` lets the stage add to what is there. ``overwrite`` makes anew what is finished
    or failed, but goes on with what was interrupted: a job that is started again loses nothing.

    Raises:
        FolderError: the folder is in use, or holds the result of something else.
    """
    folder = Path(folder)
    if rank() > 0:  # another process keeps the folder; this one only takes part in the work
        yield StageRun(stage, folder)
        return
    with locked(folder):
        wanted = _wanted(stage, config, inputs)
        earlier = Manifest.read(folder)
        same = earlier is not None and _same(earlier, wanted)
        if earlier is not None and not same:
            _check_allowed(folder, earlier, wanted, config, overwrite or incremental)
        if earlier is not None and same and earlier.status == "finished" and not overwrite:
            send_leftovers(folder, tracking)
            yield _hand_back(folder, earlier)
            return
        interrupted = same and earlier is not None and _interrupted(earlier)
        if earlier is not None and overwrite and not (incremental or interrupted):
            _empty(folder)
            same = False
        sweep_partial(folder)
        yield from _run(folder, wanted, config, tracking, resumed=same)


def _run(
    folder: Path, manifest: Manifest, config: Config, tracking: TrackingConfig, *, resumed: bool
) -> Iterator[StageRun]:
    """Yield a run that is recorded from its start to its end, however it ends."""
    tree = config.model_dump(mode="json")
    write_config(folder, tree)
    manifest.started_at, manifest.versions = now(), describe()
    manifest.write(folder)
    tags = {"medssl.stage": manifest.stage}
    tracker = open_tracker(manifest.stage, folder, _key(manifest), tracking, tags)
    _track_start(tracker, folder, manifest)
    run = StageRun(manifest.stage, folder, tracker, resumed=resumed, _manifest=manifest)
    status = "KILLED"
    try:
        yield run
        if manifest.status != "finished":
            raise RuntimeError(f"{manifest.stage} ended without calling finish()")
        status = "FINISHED"
    except Exception as error:
        status = "KILLED" if isinstance(error, PreemptedError) else "FAILED"
        manifest.error = type(error).__name__
        raise
    finally:
        try:
            if manifest.status != "finished":
                manifest.status, manifest.finished_at = "failed", now()
                manifest.write(folder)
        finally:  # even where the disk is full
            tracker.close(status)
        if tracker.run_id:
            manifest.mlflow_run_id = tracker.run_id
            manifest.write(folder)


def _track_start(tracker: Tracker, folder: Path, manifest: Manifest) -> None:
    tracker.log_params(flatten(manifest.config))
    tracker.log_params({f"input.{name}": digest for name, digest in manifest.inputs.items()})
    tracker.set_tags({f"environment.{name}": text for name, text in manifest.versions.items()})
    if manifest.seed is not None:
        tracker.set_tags({"seed": manifest.seed})
    record_provenance(tracker, manifest)
    tracker.log_file(folder / "config.yaml")


def flatten(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return ``{"section.key": value}`` of a tree of sections; lists become JSON."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{above}{key}.")
        else:
            flat[f"{above}{key}"] = json.dumps(value) if isinstance(value, list | dict) else value
    return flat


def _wanted(stage: str, config: Config, inputs: Mapping[str, str]) -> Manifest:
    tree = config.model_dump(mode="json")
    return Manifest(
        stage=stage,
        status="running",
        config=without_private(tree),
        config_digest=digest_json(_compared(tree)),
        inputs=dict(inputs),
        seed=getattr(config, "seed", None),
    )


def _compared(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    return {
        key: _compared(value, f"{above}{key}.") if isinstance(value, Mapping) else value
        for key, value in tree.items()
        if f"{above}{key}" not in _NOT_COMPARED
    }


def _same(earlier: Manifest, wanted: Manifest) -> bool:
    return (earlier.stage, earlier.config_digest, earlier.inputs) == (
        wanted.stage,
        wanted.config_digest,
        wanted.inputs,
    )


def _interrupted(manifest: Manifest) -> bool:
    """Return whether a run was killed, preempted or broken off, and did not fail by itself."""
    return manifest.status != "finished" and manifest.error in (None, PreemptedError.__name__)


def _key(manifest: Manifest) -> str:
    """Return the name under which this configuration's tracked run is kept in the folder."""
    return digest_json([manifest.config_digest, manifest.inputs])[:12]


def _hand_back(folder: Path, earlier: Manifest) -> StageRun:
    result = StageResult(earlier.stage, folder, earlier.summary, earlier.look_at, skipped=True)
    return StageRun(earlier.stage, folder, previous=result)


def _check_allowed(
    folder: Path, earlier: Manifest, wanted: Manifest, config: Config, allowed: bool
) -> None:
    """Raise unless what is in ``folder`` may be replaced or added to."""
    if earlier.stage != wanted.stage:
        raise FolderError(
            f"{folder} holds the result of '{earlier.stage}', not of '{wanted.stage}'",
            hint="choose another folder",
        )
    if allowed:
        return
    old = _compared(read_config(folder) or earlier.config)
    new = _compared(config.model_dump(mode="json"))
    changes = _changes(flatten(old), flatten(new)) + [
        f"input {line}" for line in _changes(earlier.inputs, wanted.inputs)
    ]
    more = len(changes) - _MOST_CHANGES_SHOWN
    lines = changes[:_MOST_CHANGES_SHOWN] + ([f"and {more} more"] if more > 0 else [])
    raise FolderError(
        "\n".join(
            [
                f"{folder} holds a '{earlier.stage}' that was made otherwise:",
                *(f"  {x}" for x in lines),
            ]
        ),
        hint="choose another folder, or pass --overwrite (overwrite=True) to replace it",
    )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}: was {old.get(key, 'not set')}, now {new.get(key, 'not set')}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def _empty(folder: Path) -> None:
    """Remove what a stage left in ``folder``; called only where a manifest says it is ours."""
    for path in folder.iterdir():
        if path.name == _LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder``, made if need be, for this process alone.

    Raises:
        FolderError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise FolderError(f"cannot write into {folder}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 32).decode() or "unknown"
            raise FolderError(
                f"{folder} is in use by another process ({holder})",
                hint="wait until it ends, or choose another folder",
            ) from None
        os.truncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(handle)
