"""The curve of a study: a score over the number of labelled patients, and what pretraining adds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medssl.evaluation.summary import PRETRAINED, SCRATCH, Metric
from medssl.runs.folder import atomic_path

Json = dict[str, Any]
COLOURS: Final = {PRETRAINED: "#2f6db3", SCRATCH: "#a35c1f"}
_STYLES: Final = {PRETRAINED: "-", SCRATCH: "--"}
_MARKERS: Final = {PRETRAINED: "o", SCRATCH: "s"}
_APART: Final = 1.025
"""Factor between what would lie on top of each other."""


def draw(path: Path, fractions: Sequence[Json], metric: Metric, confidence: float) -> None:
    """Write a PNG: both starts with bands on the left, their paired difference on the right.

    Args:
        path: The PNG to write.
        fractions: Rows of ``study.json``.
        metric: What is drawn.
        confidence: Of the intervals.
    """
    figure = Figure(figsize=(10.5, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for start in (PRETRAINED, SCRATCH):
        _start(left, fractions, start)
    worse = "" if metric.larger_is_better else " (lower is better)"
    left.set_ylabel(f"{metric.title}{worse}")
    left.legend(frameon=False, fontsize=9)
    _difference(right, fractions)
    right.set_ylabel("pretrained \N{MINUS SIGN} scratch, paired")
    for axes in (left, right):
        _patients(axes, fractions)
    left.set_title(f"Each start, with {confidence:.0%} intervals; small: its seeds", fontsize=10)
    right.set_title("What pretraining changes; small: its seeds", fontsize=10)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=120)


def _start(axes: Axes, fractions: Sequence[Json], start: str) -> None:
    x, found = _x(fractions), [row[start] for row in fractions]
    shift = _APART if start == SCRATCH else 1 / _APART
    style: Json = {"color": COLOURS[start], "marker": _MARKERS[start]}
    value, low, high = (_column(found, name) for name in ("value", "low", "high"))
    axes.plot(x, value, _STYLES[start], **style, label=start)
    axes.fill_between(x, low, high, color=COLOURS[start], alpha=0.15, linewidth=0)
    axes.errorbar(
        x * shift, value, _reach(value, low, high), fmt="none", ecolor=COLOURS[start], alpha=0.6,
        capsize=3, linewidth=1,
    )  # fmt: skip
    for at, row in zip(x, found, strict=True):
        seeds = row["by_seed"]
        places = [at * shift**3] * len(seeds)
        axes.plot(places, seeds, **style, linestyle="none", markersize=3, alpha=0.5)


def _difference(axes: Axes, fractions: Sequence[Json]) -> None:
    x, found = _x(fractions), [row["difference"] for row in fractions]
    value, low, high = (_column(found, name) for name in ("difference", "low", "high"))
    axes.axhline(0, color="#888", linewidth=1)
    axes.errorbar(
        x, value, _reach(value, low, high), fmt="D", color="#333", capsize=4, markersize=5
    )
    for at, row in zip(x, found, strict=True):
        seeds = row["by_seed"]
        axes.plot([at * _APART**3] * len(seeds), seeds, ".", color="#888", markersize=5)


def _patients(axes: Axes, fractions: Sequence[Json]) -> None:
    x = _x(fractions)
    labels = [f"{row['patients']}\n({100 * row['fraction']:g} %)" for row in fractions]
    axes.set_xscale("log")
    axes.set_xticks(x, labels)
    axes.minorticks_off()
    axes.set_xlim(x.min() / 1.4, x.max() * 1.4)
    axes.set_xlabel("labelled patients that train (share of those there are)")
    axes.grid(alpha=0.3)


def _x(fractions: Sequence[Json]) -> Any:
    return np.array([row["patients"] for row in fractions], np.float64)


def _column(rows: Sequence[Json], name: str) -> Any:
    return np.array([row[name] for row in rows], np.float64)


def _reach(value: Any, low: Any, high: Any) -> Any:
    """Return lengths of error bars; none where there is no interval."""
    return np.nan_to_num(np.stack([value - low, high - value]))
