"""One HTML file that shows a prediction: the scan, what was found, and where that comes from."""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from medssl import __version__
from medssl.errors import InputError
from medssl.inference.overlay import COLOURS
from medssl.inference.page.voxels import PageVoxels, page_voxels
from medssl.inference.predicted import Predicted
from medssl.runs.folder import write_text

_LOOKS: Final = (
    ("all", "All"), ("axial", "Axial"), ("coronal", "Coronal"), ("sagittal", "Sagittal"),
    ("3d", "3D"),
)  # fmt: skip
_HU_WINDOWS: Final = {
    "soft tissue": (-160, 240), "lung": (-1350, 150), "bone": (-450, 1050), "brain": (0, 80),
}  # fmt: skip
_MIB: Final = 2**20


def write_prediction_page(path: Path, predicted: Predicted, limit_mib: float) -> None:
    """Write ``path``: a page that needs nothing else, and that may fetch nothing.

    Args:
        path: Of the page.
        predicted: What to show.
        limit_mib: A scan whose int16 voxels take more is shown coarser, and the page says so.

    Raises:
        InputError: The viewer that was installed is not the one that is recorded.
    """
    voxels = page_voxels(predicted, int(limit_mib * _MIB))
    volume = predicted.volume
    viewer, code = _viewer(), (_script("niivue.umd.js"), _script("viewer.js"))
    page = _template().render(
        policy=_policy(*code),
        viewer_code=Markup(code[0]),  # noqa: S704  our own files, of known digest
        page_code=Markup(code[1]),  # noqa: S704
        viewer=viewer,
        version=__version__,
        number=predicted.number,
        model=predicted.description,
        modality=volume.modality,
        shape=" x ".join(map(str, volume.shape)),
        spacing_mm=" x ".join(f"{step:.3g}" for step in volume.spacing_mm),
        warnings=predicted.warnings,
        looks=_LOOKS,
        facts=_facts(predicted, voxels),
        volumes_ml=predicted.volumes_ml,
        answers=predicted.answers,
        distance=_distance(predicted),
        overlapping=predicted.masks is not None and predicted.masks.regions_CIJK is not None,
        reduced=" x ".join(map(str, voxels.factors)) if max(voxels.factors) > 1 else "",
        limit_mib=f"{limit_mib:g}",
        scan_base64=voxels.scan_base64,
        mask_base64=voxels.mask_base64,
    )
    write_text(path, page)


def _facts(predicted: Predicted, voxels: PageVoxels) -> dict[str, Any]:
    """Return what the viewer is told."""
    windows: dict[str, tuple[float, float]] = {"of this scan": (voxels.low, voxels.high)}
    if predicted.volume.intensity == "hu":
        windows = _HU_WINDOWS | windows
    windows["everything"] = (voxels.least, max(voxels.most, voxels.least + 1))
    names = predicted.masks.names if predicted.masks else ()
    return {
        "labels": [
            {"name": name, "colour": COLOURS[n % len(COLOURS)]} for n, name in enumerate(names)
        ],
        "windows": [{"name": name, "range": window} for name, window in windows.items()],
        "place_mm": _place_mm(predicted),
    }


def _place_mm(predicted: Predicted) -> list[float] | None:
    """Return a place to look at first, RAS mm: in the largest structure, where most of it is."""
    if predicted.masks is None or not any(predicted.voxels):
        return None
    mask_IJK = predicted.masks[int(np.argmax(predicted.voxels))]
    k = int(np.argmax(np.count_nonzero(mask_IJK, axis=(0, 1))))
    places = np.argwhere(mask_IJK[:, :, k])
    i, j = places[np.argmin(np.square(places - places.mean(axis=0)).sum(axis=1))]
    return [float(x) for x in (predicted.volume.affine_ras @ (i, j, k, 1))[:3]]


def _distance(predicted: Predicted) -> str:
    if predicted.distance is None:
        return ""
    if predicted.usual is None:
        return f"{predicted.distance:.3g}"
    return f"{predicted.distance:.3g}; {100 * predicted.usual:.0f} % of them are closer"


def _policy(*scripts: str) -> str:
    """Return what a browser may do with the page: run these scripts, and reach nobody.

    The viewer draws its letters from an image that it holds as ``data:``.
    """
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


@cache
def _viewer() -> dict[str, str]:
    """Return what is recorded of the viewer.

    Raises:
        InputError: The file is another one.
    """
    folder = files("medssl.inference.page")
    recorded: dict[str, str] = yaml.safe_load(folder.joinpath("niivue.yaml").read_bytes())
    found = hashlib.sha256(folder.joinpath("niivue.umd.js").read_bytes()).hexdigest()
    if found != recorded["sha256"]:
        raise InputError(
            "the viewer of pages (niivue.umd.js) is not the file that niivue.yaml records",
            hint="install medssl again",
        )
    return recorded


def _script(name: str) -> str:
    return files("medssl.inference.page").joinpath(name).read_bytes().decode("utf-8")


@cache
def _template() -> Any:
    text = files("medssl.inference.page").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(
        loader=DictLoader({"page.html": text}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")
