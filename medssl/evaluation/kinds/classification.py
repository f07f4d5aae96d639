"""Classifications: how well they rank, decide and know how sure they are."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from medssl.errors import InputError
from medssl.evaluation.calibration import (
    calibration_errors,
    fit_temperature_of_classes,
    fit_temperature_of_events,
    probabilities_of_classes,
    probabilities_of_events,
    reliability_table,
    save_reliability,
)
from medssl.evaluation.classification_metrics import (
    Thresholds,
    auprc,
    auroc,
    binary_metrics,
    choose_thresholds,
)
from medssl.evaluation.comparisons import compare_statistics
from medssl.evaluation.intervals import Resampling, Statistic, bootstrap_statistic
from medssl.evaluation.kinds.base import JudgeConfig, Judgement, Trial, identity
from medssl.evaluation.summary import MEAN, PRETRAINED, SCRATCH, Metric
from medssl.inference.predictor import Predictor
from medssl.labelled.cases import LabelledCase, read_image
from medssl.runs.progress import track
from medssl.tasks.classification import Classification
from medssl.training.scoring import findings

Json = dict[str, Any]
Floats = NDArray[np.float64]
NAN: Final = float("nan")
UNIT: Final = (0.0, 1.0)
AUROC: Final = Metric("auroc", "AUROC", UNIT)
SHOWN: Final = (
    AUROC,
    Metric("auprc", "AUPRC", UNIT),
    Metric("sensitivity_at_specificity", "sensitivity", UNIT),
    Metric("f1", "F1", UNIT),
    Metric("brier", "Brier score", UNIT, larger_is_better=False),
    Metric("ece", "calibration error", UNIT, larger_is_better=False),
    Metric("ece_scaled", "calibration error, scaled", UNIT, larger_is_better=False),
)
NOTE: Final = (
    "Intervals draw patients with all of their cases. Sensitivity is at the threshold that had "
    "{share:.0%} specificity on the validation cases, F1 at the one that was best there; the "
    "scaled calibration error is after one temperature fitted there."
)
_RANKING: Final[Mapping[str, Statistic]] = {"auroc": auroc, "auprc": auprc}


class Outputs(NamedTuple):
    """What one model says of some cases."""

    task: Classification
    cases: Sequence[LabelledCase]
    logits_NC: Floats
    truth_NC: Floats
    """0, 1, NaN where unknown."""

    def probabilities(self, temperature: float) -> Floats:
        """Return ``(N, C)``, after a temperature."""
        if self.task.config.one_of_several:
            return probabilities_of_classes(self.logits_NC, temperature)
        return probabilities_of_events(self.logits_NC, temperature)

    def temperature(self) -> float:
        """Return the one that suits these cases; 1 where nothing is known of any."""
        if np.isnan(self.truth_NC).all():
            return 1.0
        if not self.task.config.one_of_several:
            return fit_temperature_of_events(self.truth_NC, self.logits_NC)
        known_N = ~np.isnan(self.truth_NC).any(axis=1)
        numbers = self.truth_NC[known_N].argmax(axis=1)
        return fit_temperature_of_classes(numbers, self.logits_NC[known_N])


class Chosen(NamedTuple):
    """What validation cases decided about a model."""

    temperature: float
    thresholds: Mapping[str, Thresholds | None]
    """By answer; None where the validation had cases of one kind alone."""


def judge(trial: Trial, config: JudgeConfig, how: Resampling, folder: Path) -> Judgement:
    """Score every case with every model; thresholds and temperature are those of validation."""
    tables, chosen = list[pd.DataFrame](), dict[str, Chosen]()
    for model, predictor in trial.predictors.items():
        chosen[model] = _choose(_outputs(predictor, trial.val, trial, f"{model}, val"), config)
        outputs = _outputs(predictor, trial.cases, trial, model)
        tables.append(_rows(outputs, model, chosen[model]))
    table = pd.concat(tables, ignore_index=True)
    answers = list(dict.fromkeys(table["answer"]))
    _draw(table, config, folder / "reliability.png")
    told = {"chosen_on_validation": {model: _told(found) for model, found in chosen.items()}}
    return Judgement(
        table=table,
        metrics=_summarise(table, chosen, config, how) | told,
        headline=AUROC,
        answer=answers[0] if len(answers) == 1 else MEAN,
        shown=SHOWN,
        figures={"Are the probabilities right?": "reliability.png"},
        notes=[NOTE.format(share=config.specificity)],
    )


def answers_of(task: Classification) -> list[tuple[int, str]]:
    """Return channels and names that are judged: of two classes the second one alone."""
    names = list(enumerate(task.labels))
    two = task.config.one_of_several and len(names) == 2  # noqa: PLR2004 - the first says the same
    return names[1:] if two else names


def _outputs(
    predictor: Predictor, cases: Sequence[LabelledCase], trial: Trial, told: str
) -> Outputs:
    task: Any = predictor.task
    modality = trial.labelled.modality
    logits = [predictor.outputs(read_image(case, modality)) for case in track(cases, told)]
    target = torch.stack([task.target_of(case.targets) for case in cases])
    return Outputs(task, cases, np.stack(logits), findings(task, target).numpy())


def _choose(val: Outputs, config: JudgeConfig) -> Chosen:
    scores_NC, thresholds = val.probabilities(1.0), dict[str, Thresholds | None]()
    wanted = {"specificity": config.specificity, "sensitivity": config.sensitivity}
    for column, name in answers_of(val.task):
        try:
            cut = choose_thresholds(val.truth_NC[:, column], scores_NC[:, column], **wanted)
        except InputError:  # cases of one kind alone
            thresholds[name] = None
        else:
            thresholds[name] = cut
    return Chosen(val.temperature(), thresholds)


def _told(chosen: Chosen) -> Json:
    cuts = {name: asdict(cut) if cut else None for name, cut in chosen.thresholds.items()}
    return {"temperature": chosen.temperature, "thresholds": cuts}


def _rows(outputs: Outputs, model: str, chosen: Chosen) -> pd.DataFrame:
    plain_NC, scaled_NC = outputs.probabilities(1.0), outputs.probabilities(chosen.temperature)
    return pd.DataFrame(
        [
            {
                **identity(case, model, name),
                "target": outputs.truth_NC[n, column],
                "logit": outputs.logits_NC[n, column],
                "probability": plain_NC[n, column],
                "probability_scaled": scaled_NC[n, column],
            }
            for n, case in enumerate(outputs.cases)
            for column, name in answers_of(outputs.task)
        ]
    )


def _summarise(
    table: pd.DataFrame, chosen: Mapping[str, Chosen], config: JudgeConfig, how: Resampling
) -> Json:
    """Return ``scores`` and ``differences`` of every metric; of what ranks also the mean."""
    twins = {PRETRAINED, SCRATCH} <= set(chosen)
    answers = list(dict.fromkeys(table["answer"]))
    scores, differences = Json(), Json()
    for metric in SHOWN:
        column = "probability_scaled" if metric.column == "ece_scaled" else "probability"
        groups = {name: [name] for name in answers}
        if metric.column in _RANKING and len(answers) > 1:
            groups[MEAN] = answers
        scores[metric.column] = {
            model: {
                name: _estimate(
                    metric, _wide(table, model, members, column), found, name, config, how
                )
                for name, members in groups.items()
            }
            for model, found in chosen.items()
        }
        if metric.column in _RANKING and twins:
            differences[metric.column] = {
                name: _compared(metric, table, members, how) for name, members in groups.items()
            }
    return {"scores": scores, "differences": differences}


class Wide(NamedTuple):
    """A row per case and a column per answer."""

    target_NC: Floats
    scores_NC: Floats
    patients: list[str]


def _wide(table: pd.DataFrame, model: str, answers: Sequence[str], column: str) -> Wide:
    rows = table[table["model"] == model]
    cases = list(dict.fromkeys(rows["case_key"]))
    patients = dict(zip(rows["case_key"], rows["patient_key"], strict=True))

    def matrix(name: str) -> Floats:
        wide = rows.pivot(index="case_key", columns="answer", values=name)
        return np.asarray(wide.loc[cases, list(answers)], np.float64)

    return Wide(matrix("target"), matrix(column), [patients[case] for case in cases])


def _statistic(metric: Metric, cut: Thresholds | None, config: JudgeConfig) -> Statistic:
    """Return a metric of targets and probabilities ``(N, C)``: its mean over columns."""
    name = metric.column

    def of_one(target_N: Floats, scores_N: Floats) -> float:
        if name in _RANKING:
            return _RANKING[name](target_N, scores_N)
        if name.startswith("ece"):
            reliability = reliability_table(target_N, scores_N, bins=config.bins)
            return calibration_errors(reliability).expected
        return binary_metrics(target_N, scores_N, cut).get(name, NAN)

    def mean(target_NC: Floats, scores_NC: Floats) -> float:
        each = [of_one(*pair) for pair in zip(target_NC.T, scores_NC.T, strict=True)]
        defined = [value for value in each if not np.isnan(value)]
        return float(np.mean(defined)) if defined else NAN

    return mean


def _estimate(
    metric: Metric, wide: Wide, found: Chosen, answer: str, config: JudgeConfig, how: Resampling
) -> Json:
    statistic = _statistic(metric, found.thresholds.get(answer), config)
    pair = wide.target_NC, wide.scores_NC
    return asdict(
        bootstrap_statistic(statistic, pair, wide.patients, how=how, bounds=metric.bounds)
    )


def _compared(metric: Metric, table: pd.DataFrame, answers: Sequence[str], how: Resampling) -> Json:
    first, second = (_wide(table, model, answers, "probability") for model in (PRETRAINED, SCRATCH))
    found = compare_statistics(
        _statistic(metric, None, JudgeConfig()),
        first.target_NC,
        (first.scores_NC, second.scores_NC),
        first.patients,
        how=how,
        bounds=(-1.0, 1.0),
    )
    return asdict(found)


def _draw(table: pd.DataFrame, config: JudgeConfig, path: Path) -> None:
    """Draw the reliability of each model before and after scaling, all answers together."""
    tables = {
        f"{model}{title}": reliability_table(
            rows["target"].to_numpy(), rows[column].to_numpy(), bins=config.bins
        )
        for model, rows in table.groupby("model", sort=False)
        for column, title in (("probability", ""), ("probability_scaled", ", scaled"))
    }
    save_reliability(path, tables)
