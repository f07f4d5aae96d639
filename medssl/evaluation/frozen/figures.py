"""Pictures of what frozen encoders know."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medssl.evaluation.intervals import Estimate
from medssl.runs.folder import atomic_path

NOT_DRAWN = ("linear_l2",)
_MOST_NUMBERS = 24
"""Rows of a matrix whose cells still have room for a number."""


def draw_scores(path: Path, scores: Mapping[str, Mapping[str, Estimate]]) -> None:
    """Write a PNG with one panel per kind of score, and in it one row per encoder.

    Args:
        path: The PNG to write.
        scores: Encoder -> name of a score -> its value. ``name@k`` are drawn in one panel over k.
    """
    found = [name for of_one in scores.values() for name in of_one]
    names = [name for name in dict.fromkeys(found) if name not in NOT_DRAWN]
    panels = list(dict.fromkeys(name.partition("@")[0] for name in names))
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 2.9 * lines), layout="constrained")
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid, panels, strict=False):
        axes.set_title(panel.replace("_", " "), fontsize=10)
        axes.grid(alpha=0.3)
        over_k = [name for name in names if name.startswith(f"{panel}@")]
        _over_k(axes, scores, over_k) if over_k else _one_row_each(axes, scores, panel)
    _save(figure, path)


def _over_k(axes: Axes, scores: Mapping[str, Mapping[str, Estimate]], names: Sequence[str]) -> None:
    for number, (encoder, found) in enumerate(scores.items()):
        shown = [(int(name.partition("@")[2]), found[name]) for name in names if name in found]
        shown.sort(key=lambda pair: pair[0])
        x = np.array([k for k, _ in shown]) * 1.04**number  # beside each other
        y, reach = _values([estimate for _, estimate in shown])
        axes.errorbar(x, y, reach, fmt="o-", markersize=4, capsize=2, linewidth=1, label=encoder)
    ks = sorted({int(name.partition("@")[2]) for name in names})
    axes.set_xscale("log")
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.minorticks_off()
    axes.legend(fontsize=7, frameon=False)


def _one_row_each(axes: Axes, scores: Mapping[str, Mapping[str, Estimate]], panel: str) -> None:
    shown = {encoder: found[panel] for encoder, found in scores.items() if panel in found}
    for number, estimate in enumerate(shown.values()):
        x, reach = _values([estimate])
        axes.errorbar(x, [number], xerr=reach, fmt="o", markersize=5, capsize=3)
    axes.set_yticks(range(len(shown)), list(shown), fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=5)


def _values(estimates: Sequence[Estimate]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return means, and how far intervals reach below and above; no interval reaches nowhere."""
    mean = np.array([e.mean for e in estimates])
    reach = np.array([[e.mean - e.low for e in estimates], [e.high - e.mean for e in estimates]])
    return mean, np.nan_to_num(np.maximum(reach, 0))


def draw_matrix(path: Path, matrix_AA: NDArray[np.float64], labels: Sequence[str]) -> None:
    """Write a PNG of the likeness of each pair.

    Args:
        path: The PNG to write.
        matrix_AA: 1 for alike, around 0 for not.
        labels: Of its rows.
    """
    side = max(4.0, 0.42 * len(labels)) + 1.5
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(matrix_AA, vmin=0, vmax=1, cmap="viridis")
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.set_title("linear CKA", fontsize=10)
    if len(labels) <= _MOST_NUMBERS:
        for (row, col), value in np.ndenumerate(matrix_AA):
            text = "" if math.isnan(value) else f"{value:.2f}".replace("0.", ".")
            shade = "black" if value > 0.6 else "white"  # noqa: PLR2004 - of the colours behind
            axes.text(col, row, text, ha="center", va="center", fontsize=6, color=shade)
    figure.colorbar(image, shrink=0.7)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format="png")
