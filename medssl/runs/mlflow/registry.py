"""Named, versioned models in the registry of an MLflow store, and the runs they come from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.errors import InputError
from medssl.runs.destination import Destination
from medssl.runs.digest import digest_json
from medssl.runs.manifest import Manifest
from medssl.runs.mlflow.connection import connect, experiment_id, store_errors_explained
from medssl.runs.mlflow.lineage import Step, walk
from medssl.runs.mlflow.models import log_model, made_by
from medssl.runs.mlflow.sender import MlflowSender
from medssl.runs.model_package import ModelPackage
from medssl.runs.names import LONGEST_PARAM, accepted_value
from medssl.runs.spool import Spool

_RESERVED = re.compile(r"latest|[vV]\d+")
_LONGEST = 255
_LATE = "medssl.recorded_late"
"""Tag of a run that was recorded from its manifest, when its model was registered."""


@dataclass(frozen=True, kw_only=True)
class Registered:
    """One version of a registered model."""

    name: str
    version: str
    alias: str | None
    digest: str
    """SHA-256 of the weights."""
    run_id: str
    """The MLflow run it comes from."""

    @property
    def uri(self) -> str:
        """What ``mlflow.pyfunc.load_model`` takes."""
        return f"models:/{self.name}" + (f"@{self.alias}" if self.alias else f"/{self.version}")


def check_names(name: str, alias: str | None) -> None:
    """Raise InputError for what MLflow would refuse as a model's name or alias."""
    if not name.strip() or re.search(r"[/:]", name) or len(name) > _LONGEST:
        raise InputError(
            f"{name!r} cannot be the name of a model",
            hint="use up to 255 letters, digits, spaces and signs, but no / and no :",
        )
    if alias is not None and (
        not re.fullmatch(r"[\w-]{1,255}", alias, flags=re.ASCII) or _RESERVED.fullmatch(alias)
    ):
        raise InputError(
            f"{alias!r} cannot be an alias",
            hint="use letters, digits, _ and -, but neither `latest` nor `v` and a number",
        )


def register_model(
    folder: Path,
    package: ModelPackage,
    *,
    stage_folder: Path,
    to: Destination,
    name: str,
    alias: str | None,
) -> Registered:
    """Record the model in ``folder`` at ``to``, unless it is there, and give it a version.

    The same weights of the same run keep the version they have; only the alias moves.

    Raises:
        StoreError: The store cannot be reached, or refuses; what was begun is completed when
            this is called again.
    """
    check_names(name, alias)
    manifest = Manifest.read(stage_folder)
    if manifest is None:
        raise InputError(
            f"{stage_folder}: there is no manifest, so nothing says what the model comes from",
            hint="give a folder as `medssl finetune` or `medssl export` left it",
        )
    with store_errors_explained(to):
        client = connect(to.uri)
        run_id = _run_of(client, stage_folder, manifest, to)
        run_id = made_by(client, run_id, package.digest) or run_id
        model_id = log_model(client, run_id, name, folder, package)
        version = _version_of(client, name, run_id, model_id, package)
        if alias is not None:
            client.set_registered_model_alias(name, alias, version)
    return Registered(name=name, version=version, alias=alias, digest=package.digest, run_id=run_id)


def _version_of(client: Any, name: str, run_id: str, model_id: str, package: ModelPackage) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        if version.name == name and version.tags.get("medssl.digest") == package.digest:
            return str(version.version)
    steps = walk(client, run_id, package.digest)
    tags = {"medssl.digest": package.digest, **package.tags, **_lineage_tags(steps)}
    # where it lies, not models:/ID, which a local store looks up in the process's default store
    source = client.get_logged_model(model_id).artifact_location
    made = client.create_model_version(
        name, source=source, run_id=run_id, tags=tags, model_id=model_id
    )
    return str(made.version)


def _lineage_tags(steps: list[Step]) -> dict[str, str]:
    """Return ``lineage.<depth>.<what>`` -> digest, and the run that made it, where it is known."""
    return {
        f"medssl.lineage.{step.depth}.{step.what}": f"{step.digest} {step.run_id or ''}".strip()
        for step in steps
    }


def _run_of(client: Any, stage_folder: Path, manifest: Manifest, to: Destination) -> str:
    """Return the MLflow run of a finished stage; made now where the store has none."""
    if manifest.mlflow_run_id and _exists(client, manifest.mlflow_run_id):
        return manifest.mlflow_run_id
    for described in sorted((stage_folder / "tracking").glob("*/run.json")):
        if "." not in described.parent.name:  # not one of the runs under it
            sender = MlflowSender(Spool(described.parent), to)
            sender.send_all()
            run_id = sender.run_id()
            if run_id and _exists(client, run_id):
                return run_id
    return _recorded_late(client, manifest, to)


def _exists(client: Any, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_run(run_id).info.lifecycle_stage) == "active"
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        return False


def _recorded_late(client: Any, manifest: Manifest, to: Destination) -> str:
    """Record the stage of ``manifest``, which was not tracked, or was tracked elsewhere; once."""
    from mlflow.entities import Param

    experiment = experiment_id(client, to)
    key = digest_json([manifest.config_digest, manifest.inputs, manifest.outputs])
    found = client.search_runs([experiment], f"tags.`{_LATE}` = '{key}'", max_results=1)
    tags = {"medssl.stage": manifest.stage, _LATE: key, **_prefixed("output", manifest.outputs)}
    run = found[0] if found else client.create_run(experiment, tags=tags, run_name=manifest.stage)
    if run.info.status != "FINISHED":  # new, or begun by an attempt that was cut short
        inputs = [Param(name, value) for name, value in _prefixed("input", manifest.inputs).items()]
        client.log_batch(run.info.run_id, params=inputs)
        client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _prefixed(prefix: str, digests: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix}.{k}": accepted_value(v, LONGEST_PARAM) for k, v in digests.items()}
