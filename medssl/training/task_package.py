"""What MLflow must know of a task model's folder; ``medssl.inference.pyfunc`` is what opens it."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl import __version__
from medssl.runs.model_package import ModelPackage
from medssl.runs.names import LONGEST_TAG, accepted_value
from medssl.training.reference import REFERENCE
from medssl.training.task_model import DESCRIPTION, WEIGHTS, ModelDescription, read_description

AFFINE = "affine_ras"
"""Parameter of ``predict``: where an array lies, 16 numbers of a (4, 4) matrix, row after row."""
_LOADER = "medssl.inference.pyfunc"
_EXAMPLE_VOXELS = 8
_PACKAGES = ("torch", "monai", "numpy", "nibabel", "safetensors")


def package_of(folder: Path) -> ModelPackage:
    """Return what MLflow must know to open the task model in ``folder``.

    Raises:
        InputError: The folder holds no task model, or one this version cannot read.
    """
    about = read_description(folder)
    size = _EXAMPLE_VOXELS
    ramp = np.arange(size**3).reshape(size, size, size)  # no patient, and not constant
    whole_volume = about.task["name"] != "segmentation"
    pinned = [f"{name}=={version(name)}" for name in _PACKAGES]
    return ModelPackage(
        digest=about.weights_digest,
        loader=_LOADER,
        files=[WEIGHTS, DESCRIPTION, *([REFERENCE] if about.reference_digest else [])],
        example=ramp.tolist(),
        input=("float32", [-1, -1, -1]),
        output=("float64", [-1]) if whole_volume else ("uint8", [-1, -1, -1]),
        params={AFFINE: default_affine(about).ravel().tolist()},
        requirements=[f"medssl=={__version__}", *pinned],
        tags=_tags(about),
    )


def default_affine(about: ModelDescription) -> NDArray[np.float64]:
    """Return the (4, 4) matrix of the model's own grid, voxel to mm, RAS+, from the origin on."""
    return np.diag([*(about.spacing_mm or (1.0, 1.0, 1.0)), 1.0])


def _tags(about: ModelDescription) -> dict[str, str]:
    """Return the facts a model is looked for by; digests of what it comes from among them."""
    digests = {name: about.training[name] for name in about.training if name.endswith("_digest")}
    facts = {
        "task": about.task["name"],
        "encoder": about.encoder["name"],
        "labels": ", ".join(about.labels),
        "modality": about.modality,
        **digests,
    }
    return {f"medssl.{name}": accepted_value(value, LONGEST_TAG) for name, value in facts.items()}
