"""Regressions: how far off, how much of the spread is explained, and whether there is a bias."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from medssl.evaluation import weighted
from medssl.evaluation.case_figures import save_rows
from medssl.evaluation.exam import Exam
from medssl.evaluation.kinds.base import Grouped, Json, Judge, Judgement, Picture, identity
from medssl.evaluation.kinds.statistics import Measure, Statistics
from medssl.evaluation.regression_metrics import save_agreement
from medssl.evaluation.summary import MEAN, Metric, by_case, summarise_means
from medssl.labelled.cases import LabelledCase
from medssl.runs.progress import track

MAE: Final = Metric("absolute_error", "mean absolute error", (0.0, np.inf), larger_is_better=False)
SCALED: Final = Metric(
    "scaled_error", "mean absolute error in standard deviations", (0.0, np.inf), False
)
STATISTICS: Final = (
    Measure(
        Metric("rmse", "root mean squared error", (0.0, np.inf), larger_is_better=False),
        "predicted",
        weighted.root_mean_square,
        mean=False,
    ),
    Measure(Metric("r2", "R2", (-np.inf, 1.0)), "predicted", weighted.r2),
    Measure(Metric("bias", "bias"), "predicted", weighted.bias, mean=False),
)
NOTE: Final = (
    "Errors are in the units of the column. R2 is 1 less squared errors over the spread of the "
    "cases: below 0 where their mean would have predicted better. Bias is prediction less target: "
    "the nearer to 0, the better."
)
SEVERAL: Final = (
    "Standard deviations are those of the training cases: errors of several columns have no mean "
    "in their own units."
)
_EXAMPLES: Final = 3


class RegressionJudge(Judge):
    """Errors in the units of the column, their bias, and the cases that are farthest off."""

    @property
    def headline(self) -> Metric:
        """Return the error in the units of the column, or of several in their spreads."""
        return MAE if len(self.answers) == 1 else SCALED

    def judge(self, folder: Path) -> Judgement:
        """Score every number, draw agreement and the cases that are farthest off."""
        rows = list[Json]()
        for case in track(self.trial.cases, "evaluate"):
            exam = self.exam(case)
            rows += [row for model in self.models for row in self.rows(case, model, exam)]
        table = pd.DataFrame(rows)
        several = len(self.answers) > 1
        errors = [SCALED, MAE] if several else [MAE]
        metrics = summarise_means(table, errors, self.how)
        for by_answer in (*metrics["scores"][MAE.column].values(), *_of(metrics, MAE)):
            by_answer.pop(MEAN, None)  # of different units
        of_all = Statistics(table, self.how).summarise(STATISTICS, differences=False)
        metrics["scores"] |= of_all["scores"]
        return Judgement(
            table=table,
            metrics=metrics,
            headline=self.headline,
            answer=self.answer,
            shown=(*errors, *(measure.metric for measure in STATISTICS)),
            pictures=[*self._agreement(table, folder), *self._worst(table, folder)],
            notes=[NOTE, SEVERAL] if several else [NOTE],
        )

    def rows(self, case: LabelledCase, model: str, exam: Exam) -> list[Json]:
        """Return every number with its errors."""
        predictor = self.models[model]
        task: Any = predictor.task
        found = zip(
            self.answers,
            task.target_of(case.targets).tolist(),
            predictor.outputs(exam.volume).tolist(),
            task.config.stds or [1.0] * len(self.answers),
            strict=True,
        )
        return [
            identity(case, model, name)
            | {
                "target": target,
                "predicted": predicted,
                MAE.column: abs(predicted - target),
                SCALED.column: abs(predicted - target) / std,
            }
            for name, target, predicted, std in found
        ]

    def headline_scores(self, table: pd.DataFrame) -> dict[str, Json]:
        """Return the mean error over patients."""
        found = summarise_means(table, [self.headline], self.how, differences=False)
        by_model = found["scores"][self.headline.column]
        return {model: by_answer[self.answer] for model, by_answer in by_model.items()}

    def grouped(self, table: pd.DataFrame, model: str) -> Grouped:
        """Return the error of every case."""
        column = self.headline.column
        values = by_case(table, column)[model, self.answer]
        return Grouped(values.rename(column).reset_index(), [column], None)

    def _agreement(self, table: pd.DataFrame, folder: Path) -> list[Picture]:
        """Draw Bland and Altman's figure for every model and number."""
        drawn = list[Picture]()
        groups = table.groupby(["answer", "model"], sort=False)
        for number, ((answer, model), rows) in enumerate(groups):
            file = f"agreement-{number}.png"
            targets, predictions = rows["target"].to_numpy(), rows["predicted"].to_numpy()
            save_agreement(folder / file, targets, predictions, str(answer))
            caption = "Difference over mean of prediction and target (Bland and Altman 1986)."
            drawn.append(Picture(f"Agreement of {answer}, {model}", file, caption))
        return drawn

    def _worst(self, table: pd.DataFrame, folder: Path) -> list[Picture]:
        """Draw the cases that the first model is farthest off."""
        model, column = next(iter(self.models)), self.headline.column
        errors = by_case(table, column)[model, self.answer].dropna()
        keys = errors.sort_values(ascending=False).index.get_level_values("case_key")[:_EXAMPLES]
        if keys.empty:
            return []
        rows = [
            self.middle(str(key), f"{key}   {_told(table[table['case_key'] == key])}")
            for key in keys
        ]
        save_rows(folder / "worst.png", rows)
        told = f"Middle planes of {', '.join(map(str, keys))}, with every model's answer."
        return [Picture(f"Largest errors of {model}", "worst.png", f"{told} {self.window}", True)]


def _of(metrics: Json, metric: Metric) -> list[Json]:
    """Return the differences of a metric, if there are any."""
    found = metrics["differences"].get(metric.column)
    return [found] if found is not None else []


def _told(rows: pd.DataFrame) -> str:
    """Return targets and predictions of one case in words."""
    return "   ".join(
        f"{answer}: {of_answer['target'].iloc[0]:.3g} ("
        + ", ".join(
            f"{model} {predicted:.3g}"
            for model, predicted in zip(of_answer["model"], of_answer["predicted"], strict=True)
        )
        + ")"
        for answer, of_answer in rows.groupby("answer", sort=False)
    )
