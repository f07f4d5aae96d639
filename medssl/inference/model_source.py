"""Where a model is taken from: a folder of this machine, or a registry."""

import os
import shutil
from pathlib import Path

from medssl.errors import InputError
from medssl.runs.destination import TrackingConfig, destination
from medssl.runs.mlflow.fetch import SCHEME, fetch_model
from medssl.training.reference import REFERENCE
from medssl.training.task_model import (
    DESCRIPTION,
    WEIGHTS,
    TaskModel,
    load_task_model,
    model_folder,
)

_CHANNELS = 1


def open_model(model: str, tracking: TrackingConfig, beside: Path) -> TaskModel:
    """Return the task model that ``model`` names.

    Args:
        model: A finetune run, one model of it, a bundle, or an address in a registry.
        tracking: The store of the registry.
        beside: Folder beside which the store lies where nothing names it.

    Raises:
        InputError: There is no model, or it cannot be used: its weights are not those that it, or
            the registry, describes; it takes more than the one channel a scan has.
        StoreError: The registry cannot be reached, or has no such model.
    """
    opened = (
        _registered(model, tracking, beside)
        if model.startswith(SCHEME)
        else load_task_model(model_folder(Path(model)))
    )
    channels = opened.description.encoder.get("in_channels", _CHANNELS)
    if channels != _CHANNELS:
        raise InputError(
            f"{model}: the model takes images of {channels} channels, and a scan is one",
            hint="choose a model that was trained on single scans",
        )
    return opened


def cache_folder() -> Path:
    """Return where downloaded models are kept: below XDG_CACHE_HOME, or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "medssl" / "models"


def _registered(model: str, tracking: TrackingConfig, beside: Path) -> TaskModel:
    to, files = destination(tracking, beside), (DESCRIPTION, WEIGHTS, REFERENCE)
    fetched = fetch_model(model, to, cache_folder(), files)
    try:
        opened = load_task_model(fetched.folder)
        if opened.description.weights_digest != fetched.digest:
            raise InputError(
                f"{model}: the weights are not those that the registry describes",
                hint="somebody changed the files of the store; register the model again",
            )
    except InputError:
        shutil.rmtree(fetched.folder, ignore_errors=True)  # what is bad is not kept
        raise
    return opened
