"""Pictures of what a model says of images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medssl.data.views import Sample
from medssl.evaluation.score_figures import COLOURS
from medssl.inference.planes import PLANES
from medssl.io.geometry import reorient
from medssl.runs.folder import atomic_path

Floats = NDArray[np.float32]
MOST_PANELS: Final = 4
_AXIAL: Final = PLANES[0]


def axial(image: NDArray[Any], affine_ras: NDArray[np.float64]) -> NDArray[Any]:
    """Return the middle axial plane of an image ``(1, I, J[, K])`` as it is looked at."""
    array_IJK = image[0][..., None] if image.ndim == 3 else image[0]  # noqa: PLR2004
    array_RAS, _ = reorient(array_IJK, affine_ras, "RAS")
    return _AXIAL.cut(array_RAS, array_RAS.shape[_AXIAL.axis] // 2)


def panels(sample: Sample, affine_ras: NDArray[np.float64]) -> list[NDArray[Any]]:
    """Return a few of the images of a study, spread evenly, each as an axial plane."""
    images = sample.views_BCIJK[0]
    count = min(len(images), MOST_PANELS)
    chosen = np.linspace(0, len(images) - 1, 2 * count + 1)[1::2].round().astype(int)
    return [axial(images[n], affine_ras) for n in chosen]


def draw_study(path: Path, sample: Sample, affine_ras: NDArray[np.float64]) -> None:
    """Write a PNG of a study's images beside each other.

    Args:
        path: The PNG to write.
        sample: The study.
        affine_ras: Of its first volume, which tells how to hold it.
    """
    shown = panels(sample, affine_ras)
    figure = Figure(figsize=(2.2 * len(shown), 2.2), facecolor="black", layout="constrained")
    for axes, plane in zip(_row(figure, len(shown)), shown, strict=True):
        _scan(axes, plane)
    _save(figure, path)


def draw_explained(
    path: Path,
    sample: Sample,
    affine_ras: NDArray[np.float64],
    descriptors: Mapping[str, float],
) -> None:
    """Write a PNG of a study beside the probabilities of descriptors.

    Args:
        path: The PNG to write.
        sample: The study.
        affine_ras: Of its first volume, which tells how to hold it.
        descriptors: What was asked for: how probable it is.
    """
    height = max(2.4, 0.3 * len(descriptors) + 0.7)
    figure = Figure(figsize=(8.0, height), layout="constrained")
    scan, bars = figure.subplots(1, 2, width_ratios=(1, 1.4))
    _scan(scan, panels(sample, affine_ras)[0])
    values = list(descriptors.values())
    colours = [COLOURS[0] if value > 0.5 else "#9aa5b1" for value in values]  # noqa: PLR2004 - even
    bars.barh(range(len(values)), values, color=colours)
    bars.axvline(0.5, color="#7a8594", linewidth=1, linestyle="--")
    bars.set_yticks(range(len(values)), list(descriptors), fontsize=8)
    bars.invert_yaxis()
    bars.set(xlim=(0, 1), xlabel="probability of the descriptor")
    _save(figure, path)


def draw_templates(path: Path, auroc: Mapping[str, Mapping[str, float]]) -> None:
    """Write a PNG of the area under the curve of each finding by each way to say it.

    Args:
        path: The PNG to write.
        auroc: Finding: way to say it: area under the ROC curve.
    """
    names = list(dict.fromkeys(name for of_one in auroc.values() for name in of_one))
    figure = Figure(figsize=(7.5, max(2.2, 0.32 * len(auroc) + 1.2)), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(names):
        rows = [(values[name], row) for row, values in enumerate(auroc.values()) if name in values]
        x, y = zip(*rows, strict=True)
        axes.plot(x, y, "oDs^vPX*"[number % 8], markersize=6, alpha=0.75, label=name)
    axes.axvline(0.5, color="#7a8594", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(auroc)), list(auroc), fontsize=8)
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    axes.set(xlabel="area under the ROC curve")
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def draw_heat(
    path: Path,
    scans: Sequence[NDArray[Any]],
    heats: Sequence[Floats],
    masks: Sequence[NDArray[np.bool_]] | None = None,
) -> None:
    """Write a PNG of planes with a map of cosines over them.

    Args:
        path: The PNG to write.
        scans: Planes as they are looked at.
        heats: The same planes of the map.
        masks: Likewise of what should be found, which is outlined.
    """
    low, high = float(min(h.min() for h in heats)), float(max(h.max() for h in heats))
    figure = Figure(figsize=(2.8 * len(scans) + 0.9, 2.8), layout="constrained")
    row = _row(figure, len(scans))
    for number, (axes, scan, heat) in enumerate(zip(row, scans, heats, strict=True)):
        _scan(axes, scan)
        shown = axes.imshow(heat, cmap="inferno", vmin=low, vmax=high, alpha=0.5)
        if masks is not None and masks[number].any():
            axes.contour(masks[number], levels=[0.5], colors="#56b4e9", linewidths=1.2)
    figure.colorbar(shown, ax=row, label="cosine", shrink=0.8)
    _save(figure, path)


def _row(figure: Figure, count: int) -> list[Axes]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _scan(axes: Axes, plane: NDArray[Any]) -> None:
    axes.imshow(plane, cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format="png")
