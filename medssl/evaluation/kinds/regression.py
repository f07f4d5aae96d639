"""Regressions: how far off, how much of the spread is explained, and whether there is a bias."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from medssl.evaluation.intervals import Resampling, bootstrap_statistic
from medssl.evaluation.kinds.base import JudgeConfig, Judgement, Trial, identity
from medssl.evaluation.regression_metrics import regression_metrics, save_agreement
from medssl.evaluation.summary import MEAN, Metric, summarise_means
from medssl.labelled.cases import read_image
from medssl.runs.progress import track

Json = dict[str, Any]
MAE: Final = Metric("absolute_error", "mean absolute error", (0.0, np.inf), larger_is_better=False)
NOTE: Final = (
    "Errors are in the units of the column. R2 is 1 less squared errors over the spread of the "
    "cases: below 0 where their mean would have predicted better."
)
_STATISTICS: Final = (Metric("r2", "R2", (-np.inf, 1.0)), Metric("bias", "bias"))


def judge(trial: Trial, config: JudgeConfig, how: Resampling, folder: Path) -> Judgement:
    """Predict every case with every model, and draw agreement for each number."""
    rows = list[Json]()
    for case in track(trial.cases, "evaluate"):
        volume = read_image(case, trial.labelled.modality)
        for model, predictor in trial.predictors.items():
            task = predictor.task
            found = zip(
                task.answers,
                task.target_of(case.targets).tolist(),
                predictor.outputs(volume).tolist(),
                strict=True,
            )
            for name, target, predicted in found:
                row = {"target": target, "predicted": predicted}
                error = abs(predicted - target)
                rows.append(identity(case, model, name) | row | {"absolute_error": error})
    table = pd.DataFrame(rows)
    metrics = summarise_means(table, [MAE], how)
    for metric in _STATISTICS:
        metrics["scores"][metric.column] = _of_all_cases(table, metric, how)
    answers = list(dict.fromkeys(table["answer"]))
    return Judgement(
        table=table,
        metrics=metrics,
        headline=MAE,
        answer=answers[0] if len(answers) == 1 else MEAN,
        shown=(MAE, *_STATISTICS),
        figures=dict(_agreement(table, folder)),
        notes=[NOTE],
    )


def _of_all_cases(table: pd.DataFrame, metric: Metric, how: Resampling) -> Json:
    def statistic(target_N: Any, predicted_N: Any) -> float:
        return regression_metrics(target_N, predicted_N)[metric.column]

    return {
        str(model): {
            str(answer): asdict(
                bootstrap_statistic(
                    statistic,
                    (rows["target"].to_numpy(), rows["predicted"].to_numpy()),
                    rows["patient_key"].tolist(),
                    how=how,
                    bounds=metric.bounds,
                )
            )
            for answer, rows in of_model.groupby("answer", sort=False)
        }
        for model, of_model in table.groupby("model", sort=False)
    }


def _agreement(table: pd.DataFrame, folder: Path) -> Mapping[str, str]:
    """Draw Bland and Altman's figure for every model and number; returns title -> file."""
    drawn = {}
    for number, ((model, answer), rows) in enumerate(
        table.groupby(["model", "answer"], sort=False)
    ):
        name = f"agreement-{number}.png"
        targets, predictions = rows["target"].to_numpy(), rows["predicted"].to_numpy()
        save_agreement(folder / name, targets, predictions, str(answer))
        drawn[f"Agreement of {answer}, {model}"] = name
    return drawn
