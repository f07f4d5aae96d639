"""From a volume as it was scanned to what a task's network sees: one list of MONAI transforms.

The list is plain data. Training, prediction in memory and the exported MONAI bundle all use the
same one, so a bundle opened in another tool sees exactly what the network was trained on.
Turning it into objects goes through a list of allowed names, never through an expression.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import monai.inferers
import monai.transforms
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from numpy.typing import NDArray
from pydantic import Field, SerializeAsAny

from medssl.config.base import Config
from medssl.config.choice import choice
from medssl.data.intensity.base import Intensity
from medssl.data.intensity.ct import CTWindow
from medssl.data.intensity.grey import GreyRange
from medssl.data.intensity.mr import MRPercentiles
from medssl.errors import ConfigError, InputError

Spec = dict[str, Any]

_READING = ("LoadImaged", "EnsureChannelFirstd")
"""Steps that read a file; volumes already in memory start after them."""
_SPATIAL = ("Orientationd", "Spacingd")
"""Steps that move voxels, which a label map must follow."""
_ALLOWED = {
    **{
        name: getattr(monai.transforms, name)
        for name in (
            *_READING,
            *_SPATIAL,
            "ScaleIntensityRanged",
            "ScaleIntensityRangePercentilesd",
            "Resized",
            "ResizeWithPadOrCropd",
            "EnsureTyped",
            "Activationsd",
            "Invertd",
            "AsDiscreted",
        )
    },
    "SlidingWindowInferer": monai.inferers.SlidingWindowInferer,
    "SimpleInferer": monai.inferers.SimpleInferer,
}


class PreprocessingConfig(Config):
    """The grid and the intensities a task's network works on."""

    spacing_mm: (
        tuple[
            Annotated[float, Field(gt=0)],
            Annotated[float, Field(gt=0)],
            Annotated[float, Field(gt=0)],
        ]
        | None
    ) = (1.0, 1.0, 1.0)
    """Voxel size every volume is resampled to, towards right, anterior, superior; null: as it is,
    for pictures, which have none."""
    intensity: Annotated[SerializeAsAny[Intensity.Config], choice("medssl.data.intensity")]
    """How intensities become numbers in [0, 1]; use what the encoder was pretrained with."""

    def specs(self) -> list[Spec]:
        """Return the transforms for the key ``image``, from file to network input."""
        return [
            {"_target_": "LoadImaged", "keys": "image", "reader": "NibabelReader"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {
                "_target_": "Orientationd",
                "keys": "image",
                "axcodes": "RAS",
                "labels": [["L", "R"], ["P", "A"], ["I", "S"]],
            },
            *_spacing_specs(self.spacing_mm),
            _intensity_spec(self.intensity),
            {"_target_": "EnsureTyped", "keys": "image"},
        ]


def _spacing_specs(spacing_mm: Sequence[float] | None) -> list[Spec]:
    if spacing_mm is None:
        return []
    pixdim = list(spacing_mm)
    return [{"_target_": "Spacingd", "keys": "image", "pixdim": pixdim, "mode": "bilinear"}]


def _intensity_spec(config: Intensity.Config) -> Spec:
    scale: Spec = {"keys": "image", "b_min": 0.0, "b_max": 1.0, "clip": True}
    if isinstance(config, CTWindow.Config):
        low_hu, high_hu = config.window_hu
        return {"_target_": "ScaleIntensityRanged", **scale, "a_min": low_hu, "a_max": high_hu}
    if isinstance(config, GreyRange.Config):
        low, high = config.limits
        return {"_target_": "ScaleIntensityRanged", **scale, "a_min": low, "a_max": high}
    if isinstance(config, MRPercentiles.Config):
        percentiles = {"lower": 0.5, "upper": 99.5}
        return {"_target_": "ScaleIntensityRangePercentilesd", **scale, **percentiles}
    raise ConfigError(
        f"intensity {config.name!r} cannot be written as a MONAI transform",
        hint="use ct, mr or grey: a task model must open in other tools",
    )


def in_memory(specs: Sequence[Spec]) -> list[Spec]:
    """Return ``specs`` without the steps that read a file."""
    return [spec for spec in specs if spec["_target_"] not in _READING]


def with_label(specs: Sequence[Spec]) -> list[Spec]:
    """Return ``specs`` so that a label map under the key ``label`` follows the image's grid."""
    paired = []
    for spec in specs:
        changed = dict(spec)
        if spec["_target_"] in (*_SPATIAL, *_READING):
            changed["keys"] = ["image", "label"]
        if spec["_target_"] == "Spacingd":
            changed["mode"] = [spec["mode"], "nearest"]
        paired.append(changed)
    return paired


def build(spec: Spec, *, references: Mapping[str, Any] | None = None) -> Any:
    """Return the MONAI object that ``spec`` describes.

    Args:
        spec: A ``{"_target_": name, **arguments}`` mapping of plain values.
        references: Objects that string arguments such as ``"@preprocessing"`` stand for.

    Raises:
        InputError: The name is not an allowed one, or an argument is an expression.
    """
    arguments = dict(spec)
    name = arguments.pop("_target_", None)
    if name not in _ALLOWED:
        raise InputError(
            f"the model asks for the transform {name!r}, which is not one of: "
            f"{', '.join(sorted(_ALLOWED))}",
            hint="this model was not written by medssl, or by a newer version",
        )
    known = references or {}
    for key, value in arguments.items():
        if isinstance(value, str) and value[:1] in ("$", "@", "%"):
            if value not in known:
                raise InputError(
                    f"the argument {key} of {name} is an expression, which is never evaluated",
                    hint="this model was not written by medssl",
                )
            arguments[key] = known[value]
    return _ALLOWED[name](**arguments)


def compose(specs: Sequence[Spec], *, references: Mapping[str, Any] | None = None) -> Compose:
    """Return the transforms of ``specs`` in order; see ``build``."""
    return Compose([build(spec, references=references) for spec in specs])


def as_metatensor(array_IJK: NDArray[Any], affine_ras: NDArray[np.float64]) -> MetaTensor:
    """Return ``(1, I, J, K)`` float32 with its affine, as MONAI's reader would."""
    # A copy of its own: readers hand out memory-mapped or read-only arrays.
    voxels = torch.from_numpy(np.array(array_IJK, dtype=np.float32, order="C"))
    return MetaTensor(voxels[None], affine=torch.from_numpy(np.array(affine_ras, np.float64)))
