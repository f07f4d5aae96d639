"""A trained task model on disk: safetensors for the weights, JSON for everything else.

``model.json`` says how to build the network, how volumes are prepared for it and how its output
is read. Nothing in it is executed: components are found by name, transforms by a list of allowed
names, and the weights' digest must match.
"""

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from medssl import __version__
from medssl.config.base import Config
from medssl.config.stored import read_component
from medssl.errors import InputError
from medssl.models.encoders.base import Encoder
from medssl.runs.digest import digest_bytes, digest_file
from medssl.runs.folder import atomic_path, read_json, write_json
from medssl.tasks.base import Task
from medssl.training.reference import Reference, load_reference, save_reference

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
Spec = dict[str, Any]


class ModelDescription(Config):
    """What ``model.json`` holds."""

    format_version: Literal[1] = 1
    """Raised when an older reader would misunderstand the file."""
    title: str
    """For people: what is predicted, from what."""
    task: dict[str, Any]
    """The task's name and options."""
    encoder: dict[str, Any]
    """The encoder's name and options; the task's network stands on it."""
    network_def: Spec | None
    """The same network as MONAI builds it; null where it has none."""
    labels: tuple[str, ...]
    """Name of every class, the background first where there is one, or of every number."""
    modality: str
    """``CT``, ``MR`` or ``unknown``, of the volumes it was trained on."""
    spacing_mm: tuple[float, float, float] | None
    """Voxel size that volumes are resampled to; null: none."""
    patch_voxels: tuple[int, int, int]
    """Patch the network was trained on, and is given at once."""
    preprocessing: tuple[Spec, ...]
    """Transforms from file to network input."""
    inferer: Spec
    """How a whole volume is covered with patches."""
    postprocessing: tuple[Spec, ...]
    """Transforms from logits to the answer on the input's own grid."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Where the weights come from: start, steps, seed, digests, best validation score."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Packages the model was trained with."""
    weights_digest: str = ""
    """SHA-256 of ``model.safetensors``."""
    reference_digest: str = ""
    """SHA-256 of ``reference.safetensors``; "" where the model has none."""

    @property
    def grid_mm(self) -> tuple[float, float, float]:
        """Voxel size of what the network sees; that of pictures is taken for 1 mm."""
        return self.spacing_mm or (1.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class TaskModel:
    """A network in evaluation mode, its task, and its description."""

    network: nn.Module
    task: Task
    description: ModelDescription
    encoder: Encoder
    """The encoder inside the network."""
    reference: Reference | None = None
    """What its training scans looked like, where that was recorded."""


def save_task_model(
    folder: Path,
    network: nn.Module,
    description: ModelDescription,
    reference: Reference | None = None,
) -> None:
    """Write ``model.safetensors`` and ``model.json`` into ``folder``, the description last.

    With a ``reference``, ``reference.safetensors`` as well.
    """
    state = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    weights = save(state)
    with atomic_path(folder / WEIGHTS) as path:
        path.write_bytes(weights)
    packages = ("monai", "numpy", "torch")
    complete = description.model_copy(
        update={
            "weights_digest": digest_bytes(weights),
            "reference_digest": save_reference(folder, reference) if reference else "",
            "versions": {"medssl": __version__, **{name: version(name) for name in packages}},
        }
    )
    write_json(folder / DESCRIPTION, complete.model_dump(mode="json"))


def load_task_model(folder: Path, *, trust_names: bool = False) -> TaskModel:
    """Return the task model that ``folder`` holds, ready to predict.

    Args:
        folder: A member of a finetune run (``pretrained``, ``scratch``) or a MONAI bundle that
            medssl exported, which keeps the same two files under ``models``.
        trust_names: Allow a third party's encoder or task, whose module is then imported by the
            name the file gives. Set it for your own runs, not for models from elsewhere.

    Raises:
        InputError: Files are missing or damaged, or the weights are not this network's.
    """
    inside = folder / "models" if (folder / "models" / DESCRIPTION).is_file() else folder
    description = read_description(inside)
    if digest_file(inside / WEIGHTS) != description.weights_digest:
        raise InputError(
            f"{folder}: {WEIGHTS} is not the file that {DESCRIPTION} describes",
            hint="the file is damaged, or was replaced; export the model again",
        )
    task: Task = read_component("medssl.tasks", description.task, trust_names=trust_names).build(
        labels=description.labels
    )
    encoder: Encoder = read_component(
        "medssl.models.encoders", description.encoder, trust_names=trust_names
    ).build()
    network, _ = task.network(encoder)
    try:
        network.load_state_dict(load_file(inside / WEIGHTS), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{folder}: the weights do not fit the network that {DESCRIPTION} describes",
            hint="weights and description belong to different runs; export the model again",
        ) from error
    return TaskModel(
        network=network.eval(),
        task=task,
        description=description,
        encoder=encoder.eval(),
        reference=load_reference(inside, description.reference_digest),
    )


def is_task_model(folder: Path) -> bool:
    """Return whether ``folder`` is one model of a finetuning."""
    return (folder / DESCRIPTION).is_file()


def model_folder(run: Path) -> Path:
    """Return where the task model of ``run`` lies.

    Args:
        run: One model of a finetune run, a run with only one, or an exported MONAI bundle.

    Raises:
        InputError: There is no task model, or more than one.
    """
    for folder in (run, run / "models"):
        if is_task_model(folder):
            return folder
    found = sorted(path.parent for path in run.glob(f"*/{DESCRIPTION}"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"{run}: there is no task model",
            hint="give a model of a finetune run, such as RUN/pretrained, or an exported bundle",
        )
    raise InputError(
        f"{run} holds {len(found)} models: {', '.join(path.name for path in found)}",
        hint=f"give one of them, such as {found[0]}",
    )


def read_description(folder: Path) -> ModelDescription:
    """Return what ``folder/model.json`` says.

    Raises:
        InputError: The folder holds no task model, or one this version cannot read.
    """
    for name in (WEIGHTS, DESCRIPTION):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder}: there is no {name}, so this is not a task model",
                hint="give the folder of an exported bundle, or of one model of a finetune run",
            )
    try:
        return ModelDescription.model_validate(read_json(folder / DESCRIPTION))
    except (json.JSONDecodeError, ValidationError) as error:
        raise InputError(
            f"{folder}: {DESCRIPTION} cannot be read ({type(error).__name__})",
            hint="it is damaged, or was written by another version of medssl",
        ) from error
