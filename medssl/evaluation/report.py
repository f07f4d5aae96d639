"""The evaluation for people: one HTML page that needs nothing else, and a figure of overlays."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medssl.evaluation.kinds.base import Judgement
from medssl.inference.overlay import Panel, most_labelled_slice, save_grid
from medssl.io.volume import Volume
from medssl.labelled.cases import LabelledSet
from medssl.runs.folder import atomic_path, write_text


@dataclass(frozen=True, kw_only=True)
class Example:
    """One case to look at: its image, its reference, and what each model made of it."""

    case_key: str
    volume: Volume
    reference_IJK: NDArray[np.uint8]
    masks: Mapping[str, NDArray[np.uint8]]
    dice: Mapping[str, float]


def save_overlays(path: Path, examples: Sequence[Example], labels: Sequence[str]) -> None:
    """Write a row per example: the image, the reference, and every model's mask."""
    save_grid(path, [_row(example) for example in examples], labels)


def _row(example: Example) -> list[Panel]:
    affine = example.volume.affine_ras
    slice_k = most_labelled_slice(example.reference_IJK, affine)

    def panel(title: str, mask_IJK: NDArray[np.uint8] | None) -> Panel:
        return Panel(
            title=title,
            image_IJK=example.volume.array_IJK,
            mask_IJK=mask_IJK,
            affine_ras=affine,
            slice_k=slice_k,
        )

    models = [
        panel(f"{member}, Dice {example.dice[member]:.3f}", mask)
        for member, mask in example.masks.items()
    ]
    return [panel(example.case_key, None), panel("reference", example.reference_IJK), *models]


def save_scores(path: Path, table: pd.DataFrame) -> None:
    """Write a figure of every case's Dice, class by class; twins of one case are joined."""
    classes = list(dict.fromkeys(table["answer"]))
    members = list(dict.fromkeys(table["model"]))
    figure = Figure(figsize=(2.6 * len(classes) + 1, 3.4), layout="constrained")
    for axes, name in zip(
        figure.subplots(1, len(classes), squeeze=False, sharey=True)[0], classes, strict=True
    ):
        wide = table[table["answer"] == name].pivot_table(
            index="case_key", columns="model", values="dice"
        )
        for values in wide.reindex(columns=members).to_numpy():
            axes.plot(members, values, "o-", color="#3f6fa7", alpha=0.5, markersize=4)
        axes.set(title=name, xlim=(-0.4, len(members) - 0.6))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("Dice")
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110)


def write_report(
    folder: Path, labelled: LabelledSet, metrics: Mapping[str, Any], judgement: Judgement
) -> None:
    """Write ``report.html`` into ``folder``, where the figures already are.

    Figures are inside the page; names from the data set are escaped.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("report.html").render(
        title=f"{labelled.name}: evaluation",
        dataset=labelled,
        metrics=metrics,
        shown=judgement.shown,
        figures={title: _inline(folder / name) for title, name in judgement.figures.items()},
    )
    write_text(folder / "report.html", page)


def _inline(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
