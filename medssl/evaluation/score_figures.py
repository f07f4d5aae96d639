"""Every case as a dot: how models do, structure by structure."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medssl.evaluation.summary import PRETRAINED, SCRATCH
from medssl.runs.folder import atomic_path

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Of Okabe & Ito's palette: the first model, the second, and so on."""
_COLUMNS: Final = 4


def save_scores(path: Path, table: pd.DataFrame, column: str, title: str) -> None:
    """Write a PNG with a panel per answer and a dot per case.

    Twins are drawn against each other: above the diagonal pretraining is the larger one. One model
    alone is drawn in ascending order.

    Args:
        path: Of the figure.
        table: A row per case, model and answer.
        column: Which number of it.
        title: What it is called.
    """
    answers = list(dict.fromkeys(table["answer"]))
    columns = min(len(answers), _COLUMNS)
    rows = -(-len(answers) // columns)
    figure = Figure(figsize=(2.7 * columns + 0.4, 2.9 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, answer in zip(panels, answers, strict=False):
        wide = table[table["answer"] == answer].pivot(
            index="case_key", columns="model", values=column
        )
        _draw(axes, wide, title)
        axes.set_title(str(answer), fontsize=10)
        axes.grid(alpha=0.3)
    for axes in panels[len(answers) :]:
        axes.set_axis_off()
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format="png")


def _draw(axes: Axes, wide: pd.DataFrame, title: str) -> None:
    if wide.isna().to_numpy().all():
        axes.text(0.5, 0.5, "no case has it", ha="center", transform=axes.transAxes)
        return
    look: dict[str, Any] = {"color": COLOURS[0], "alpha": 0.6, "markersize": 5}
    if {PRETRAINED, SCRATCH} <= set(wide.columns):
        axes.axline((0, 0), slope=1, color="#7a8594", linewidth=1, linestyle="--")
        axes.plot(wide[SCRATCH], wide[PRETRAINED], "o", **look)
        axes.set(xlabel=f"{title}, {SCRATCH}", ylabel=f"{title}, {PRETRAINED}")
        low, high = np.nanmin(wide.to_numpy()), np.nanmax(wide.to_numpy())
        margin = 0.05 * (high - low) + 0.01
        axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
        axes.set_aspect("equal")
        return
    ordered = np.sort(wide.iloc[:, 0].dropna().to_numpy())
    axes.plot(np.arange(1, len(ordered) + 1), ordered, "o", **look)
    axes.set(xlabel="cases in order", ylabel=f"{title}, {wide.columns[0]}")
