"""The headline on scans made worse: how much a model bears, and whether pretraining helps there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field, SerializeAsAny

from medssl.config.base import Config
from medssl.config.choice import choice
from medssl.evaluation.corruptions.base import Corruption
from medssl.evaluation.corruptions.intensity_scale import IntensityScale
from medssl.evaluation.corruptions.intensity_shift import IntensityShift
from medssl.evaluation.corruptions.missing_slices import MissingSlices
from medssl.evaluation.corruptions.noise import Noise
from medssl.evaluation.corruptions.resolution import Resolution
from medssl.evaluation.corruptions.rotation import Rotation
from medssl.evaluation.corruptions.thick_slices import ThickSlices
from medssl.evaluation.kinds.base import Judge
from medssl.evaluation.score_figures import COLOURS
from medssl.evaluation.summary import Metric
from medssl.labelled.cases import LabelledCase
from medssl.runs.digest import digest_json
from medssl.runs.folder import atomic_path
from medssl.runs.progress import track

Json = dict[str, Any]
CORRUPTIONS: Final = "medssl.evaluation.corruptions"
ROBUSTNESS: Final = "robustness.png"
_COLUMNS: Final = 3
_MARKERS: Final = "os^D"


class RobustnessConfig(Config):
    """Which scans are made worse, and how; each severity is one more prediction of every case."""

    corruptions: Annotated[
        tuple[Annotated[SerializeAsAny[Corruption.Config], choice(CORRUPTIONS)], ...],
        Field(min_length=1),
    ] = (
        IntensityShift.Config(),
        IntensityScale.Config(),
        Noise.Config(),
        Resolution.Config(),
        ThickSlices.Config(),
        MissingSlices.Config(),
        Rotation.Config(),
    )
    """By the names of their files in medssl/evaluation/corruptions."""
    most_cases: Annotated[int, Field(gt=0)] | None = None
    """Only so many of the cases, evenly spread over their list; null: all of them."""


@dataclass(frozen=True)
class _Setting:
    """One corruption at one severity."""

    number: int
    corruption: Corruption
    severity: float
    unit: str


def measure_robustness(
    judge: Judge, table: pd.DataFrame, config: RobustnessConfig, *, seed: int
) -> list[Json]:
    """Return the headline of every model under every corruption, with intervals by patient.

    Severity 0 is the scans as they are: the rows of ``table``. Scans are made worse in memory.

    Args:
        judge: What made the table.
        table: A row per case, model and answer, of the scans as they are.
        config: What is done to them.
        seed: Decides, with a case's key, what is drawn; the same for every severity.

    Returns:
        A row per corruption, severity and model: ``number`` (place among the corruptions),
        ``corruption``, ``title``, ``unit``,
        ``severity``, ``model``, ``value``, ``low``, ``high`` and ``patients``.
    """
    cases = _some(judge.trial.cases, config.most_cases)
    settings = list(_settings(config, judge.trial.labelled.modality))
    rows = [list[Json]() for _ in settings]
    for case in track(cases, "robustness"):
        exam = judge.exam(case)
        for number, setting in enumerate(settings):
            rng = np.random.default_rng(_drawn_from(seed, case.case_key, setting.number))
            worse = setting.corruption.apply(exam, setting.severity, rng)
            for model in judge.models:
                rows[number] += judge.rows(case, model, worse)
    clean = table[table["case_key"].isin([case.case_key for case in cases])]
    clean_scores, found = judge.headline_scores(clean), list[Json]()
    for setting, of_setting in zip(settings, rows, strict=True):
        if not found or found[-1]["number"] != setting.number:
            found += _told(setting, 0.0, clean_scores)
        scores = judge.headline_scores(pd.DataFrame(of_setting))
        found += _told(setting, setting.severity, scores)
    return found


def _settings(config: RobustnessConfig, modality: str) -> Iterator[_Setting]:
    for number, options in enumerate(config.corruptions):
        corruption: Corruption = options.build()
        severities, unit = corruption.scale(modality)
        for severity in severities:
            yield _Setting(number, corruption, severity, unit)


def _some(cases: Sequence[LabelledCase], most: int | None) -> list[LabelledCase]:
    if most is None or most >= len(cases):
        return list(cases)
    return [cases[n * len(cases) // most] for n in range(most)]


def _drawn_from(seed: int, case_key: str, number: int) -> list[int]:
    return [seed, int(digest_json(case_key)[:8], 16), number]


def _told(setting: _Setting, severity: float, scores: Mapping[str, Json]) -> list[Json]:
    corruption = setting.corruption
    return [
        {
            "number": setting.number,
            "corruption": corruption.config.name,
            "title": corruption.title,
            "unit": setting.unit,
            "severity": severity,
            "model": model,
            **{name: score[name] for name in ("value", "low", "high", "patients")},
        }
        for model, score in scores.items()
    ]


def save_robustness(path: Path, rows: Sequence[Json], headline: Metric) -> None:
    """Write a PNG with a panel per corruption: the headline over severity, with intervals.

    Args:
        path: Of the figure.
        rows: Of ``measure_robustness``.
        headline: What was measured.
    """
    table = pd.DataFrame(rows)
    panels = [part for _, part in table.groupby("number", sort=False)]
    columns = min(len(panels), _COLUMNS)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.7 * lines + 0.4), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes in grid.ravel()[len(panels) :]:
        axes.set_axis_off()
    for axes, part in zip(grid.ravel(), panels, strict=False):
        _draw(axes, part)
    for axes in grid[:, 0]:
        axes.set_ylabel(headline.title)
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=9)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format="png")


def _draw(axes: Axes, part: pd.DataFrame) -> None:
    for number, (model, of_model) in enumerate(part.groupby("model", sort=False)):
        line = of_model.sort_values("severity").astype(
            {"value": float, "low": float, "high": float}
        )
        colour = COLOURS[number % len(COLOURS)]
        axes.fill_between(line["severity"], line["low"], line["high"], color=colour, alpha=0.15)
        marker = _MARKERS[number % len(_MARKERS)]
        style = "-" if number == 0 else "--"
        axes.plot(
            line["severity"], line["value"], marker + style, color=colour, label=model, markersize=4
        )
    axes.set_title(f"{part['title'].iloc[0]}", fontsize=10)
    axes.set_xlabel(part["unit"].iloc[0], fontsize=9)
    axes.grid(alpha=0.3)
