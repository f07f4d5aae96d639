"""The table and the figure of ``label_efficiency``: Dice beside scratch, with intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from medssl.evaluation.intervals import pigeonhole_mean
from medssl.runs.folder import atomic_path

SCRATCH: Final = "scratch"
DRAWS: Final = 5000


def plan_means(trials: pd.DataFrame) -> pd.DataFrame:
    """Return mean Dice on patients of the validation: a row per start, a column per plan."""
    return trials.groupby(["method", "plan"], sort=False)["dice"].mean().unstack()


def best_plans(trials: pd.DataFrame) -> dict[str, str]:
    """Return, for each start, the plan of the highest mean Dice on patients of the validation."""
    means = plan_means(trials)
    return {str(method): str(plan) for method, plan in means.idxmax(axis=1).items()}


def dice_of(rows: pd.DataFrame, method: str) -> NDArray[np.float64]:
    """Return mean Dice over classes as ``(seeds, patients)`` of one method's rows."""
    mine = rows[rows["method"] == method]
    table = mine.pivot_table(index="seed", columns="patient_key", values="dice", aggfunc="mean")
    return np.asarray(table.sort_index().sort_index(axis=1), dtype=np.float64)


def interval(values_SP: NDArray[np.float64], draws: int = DRAWS) -> tuple[float, float, float]:
    """Return the mean and its 95 % percentile interval, seeds and patients drawn anew."""
    found = pigeonhole_mean(values_SP, resamples=draws)
    return found.mean, found.low, found.high


def summarise(rows: pd.DataFrame, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Return, per budget, labels and method, Dice and its difference to scratch."""
    found = []
    for arm, group in rows.groupby(["budget", "labels"], sort=False):
        budget, labels = cast(tuple[str, int], arm)
        scratch_SP = dice_of(group, SCRATCH)
        scratch_high = interval(scratch_SP)[2]
        for method in (SCRATCH, *methods):
            values_SP = dice_of(group, method)
            mean, low, high = interval(values_SP)
            gain, gain_low, gain_high = interval(values_SP - scratch_SP)
            found.append(
                {
                    "budget": budget, "labels": labels, "method": method,
                    "dice": mean, "low": low, "high": high,
                    "by_seed": values_SP.mean(axis=1).round(4).tolist(),
                    "gain": gain, "gain_low": gain_low, "gain_high": gain_high,
                    "apart_from_scratch": low > scratch_high,
                }
            )  # fmt: skip
    return found


def show_trials(trials: pd.DataFrame, console: Console) -> None:
    """Print one line per start: the mean Dice of each plan, and which one it keeps."""
    best = best_plans(trials)
    means = plan_means(trials)
    table = Table(title="Dice on patients of the validation, for each plan of fine-tuning")
    for name in ("start", *means.columns, "keeps"):
        table.add_column(name)
    for method, row in means.iterrows():
        table.add_row(str(method), *(f"{value:.3f}" for value in row), best[str(method)])
    console.print(table)


def show(found: Sequence[dict[str, Any]], console: Console) -> None:
    """Print one line per arm."""
    table = Table(title="Dice on patients held aside")
    for name in ("budget", "labels", "start", "Dice", "95 %", "seeds", "gain", "95 %", "apart"):
        table.add_column(name)
    for row in found:
        scratch = row["method"] == SCRATCH
        table.add_row(
            row["budget"], str(row["labels"]), row["method"], f"{row['dice']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            " ".join(f"{value:.2f}" for value in row["by_seed"]),
            "" if scratch else f"{row['gain']:+.3f}",
            "" if scratch else f"{row['gain_low']:+.3f} to {row['gain_high']:+.3f}",
            "" if scratch else ("yes" if row["apart_from_scratch"] else "no"),
        )  # fmt: skip
    console.print(table)


def draw(path: Path, found: Sequence[dict[str, Any]]) -> None:
    """Write a figure: Dice over the number of labels, one panel per budget."""
    frame = pd.DataFrame(found)
    budgets = list(dict.fromkeys(frame["budget"]))
    figure = Figure(figsize=(5 * len(budgets), 4), layout="constrained")
    panels = figure.subplots(1, len(budgets), squeeze=False, sharey=True)[0]
    for axes, budget in zip(panels, budgets, strict=True):
        for method, rows in frame[frame["budget"] == budget].groupby("method", sort=False):
            style = "--" if method == SCRATCH else "-"
            line = axes.plot(rows["labels"], rows["dice"], style, marker="o", label=method)[0]
            axes.fill_between(
                rows["labels"], rows["low"], rows["high"], alpha=0.12, color=line.get_color()
            )
        axes.set(title=f"{budget} fine-tuning", xlabel="labelled patients", xscale="log")
        axes.set_xticks(sorted(set(frame["labels"])), sorted(set(frame["labels"])), minor=False)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("Dice, patients held aside")
    panels[-1].legend(frameon=False, fontsize=8)
    with atomic_path(path) as partial_path:
        figure.savefig(partial_path, dpi=120, format="png")
