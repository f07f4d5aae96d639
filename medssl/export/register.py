"""Give a task model a name, a version and an alias in an MLflow store."""

from pathlib import Path

from medssl.runs.destination import TrackingConfig, destination
from medssl.runs.manifest import FILE, Manifest
from medssl.runs.mlflow.registry import Registered, register_model
from medssl.runs.tracking import recorded_at
from medssl.training.task_model import model_folder
from medssl.training.task_package import package_of

_LEVELS_ABOVE = 4


def register(
    run: Path, *, name: str, alias: str | None = None, tracking: TrackingConfig | None = None
) -> Registered:
    """Register the task model in ``run``; ``mlflow.pyfunc.load_model`` then opens it by name.

    Doing it again with the same model keeps its version and moves the alias.

    Args:
        run: One model of a finetune run, a run with only one, or an exported MONAI bundle.
        name: What the model is called in the registry.
        alias: A name for this version, such as ``champion``; it moves from another version.
        tracking: The store; by default the one that the run itself was recorded in.

    Raises:
        InputError: There is no task model, or more than one; or a name is not allowed.
        StoreError: The store cannot be reached, or refuses. Call it again when it answers.
    """
    folder = model_folder(run)
    stage_folder = _stage_folder(folder)
    recorded = None if tracking else recorded_at(stage_folder)
    to = recorded or destination(tracking or _configured(stage_folder), stage_folder)
    return register_model(
        folder, package_of(folder), stage_folder=stage_folder, to=to, name=name, alias=alias
    )


def _configured(stage_folder: Path) -> TrackingConfig:
    """Return where the stage was to be recorded."""
    manifest = Manifest.read(stage_folder)
    section = manifest.config.get("tracking") if manifest else None
    known = (
        {key: section[key] for key in ("uri", "experiment") if key in section} if section else {}
    )
    return TrackingConfig.model_validate(known)


def _stage_folder(folder: Path) -> Path:
    """Return the folder of the stage that left the model: the next one up with a manifest."""
    resolved = folder.resolve()
    for above in (resolved, *resolved.parents[:_LEVELS_ABOVE]):
        if (above / FILE).is_file():
            return above
    return resolved
