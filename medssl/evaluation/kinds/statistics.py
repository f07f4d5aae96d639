"""Statistics of all cases together, such as areas under curves, for every model and answer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medssl.evaluation.draws import Draws
from medssl.evaluation.intervals import Resampling
from medssl.evaluation.summary import MEAN, PRETRAINED, SCRATCH, Metric
from medssl.evaluation.weighted import Factory, Weighted, mean_of, pooled

Json = dict[str, Any]
Floats = NDArray[np.float64]


class Measure(NamedTuple):
    """A statistic of what is true and what a model says."""

    metric: Metric
    said: str
    """The column of the table that holds what a model says."""
    factory: Factory
    mean: bool = True
    """Whether its mean over several answers means anything."""


class Statistics:
    """Measures of a table of cases, with the same draws of patients for all of them."""

    def __init__(self, table: pd.DataFrame, how: Resampling) -> None:
        """Arrange a table.

        Args:
            table: A row per case, model and answer: ``case_key``, ``patient_key``, ``model``,
                ``answer``, ``target`` and what models say; NaN where there is none.
            how: How intervals and p-values are made.
        """
        self._table, self._how = table, how
        self.models = [str(model) for model in dict.fromkeys(table["model"])]
        self.answers = [str(answer) for answer in dict.fromkeys(table["answer"])]
        patients = table.drop_duplicates("case_key").set_index("case_key")["patient_key"]
        self._cases, self._patients_N = list(patients.index), patients.to_numpy(dtype=str)
        self._draws = dict[bytes, Draws]()

    def summarise(self, measures: Sequence[Measure], *, differences: bool = True) -> Json:
        """Return ``scores[column][model][answer]`` and ``differences[column][answer]``."""
        scores = {measure.metric.column: self._scores(measure) for measure in measures}
        twins = differences and {PRETRAINED, SCRATCH} <= set(self.models)
        compared = measures if twins else ()
        return {
            "scores": scores,
            "differences": {measure.metric.column: self._compared(measure) for measure in compared},
        }

    def _groups(self, measure: Measure) -> Mapping[str, Sequence[str]]:
        alone = {answer: [answer] for answer in self.answers}
        several = measure.mean and len(self.answers) > 1
        return {**alone, MEAN: self.answers} if several else alone

    def _scores(self, measure: Measure) -> Json:
        return {
            model: {
                name: self._estimate(measure, model, answers)
                for name, answers in self._groups(measure).items()
            }
            for model in self.models
        }

    def _estimate(self, measure: Measure, model: str, answers: Sequence[str]) -> Json:
        kept, target_NC = self._known(answers)
        said_NC = self._wide(model, answers, measure.said)[kept]
        statistic = _mean(measure.factory, target_NC, [said_NC])
        return asdict(self._draws_of(kept).estimate(statistic, measure.metric.bounds))

    def _compared(self, measure: Measure) -> Json:
        return {
            name: self._difference(measure, answers)
            for name, answers in self._groups(measure).items()
        }

    def _difference(self, measure: Measure, answers: Sequence[str]) -> Json:
        kept, target_NC = self._known(answers)
        said = [self._wide(model, answers, measure.said)[kept] for model in (PRETRAINED, SCRATCH)]
        first, second = (_mean(measure.factory, target_NC, [said_NC]) for said_NC in said)
        low, high = measure.metric.bounds
        found = self._draws_of(kept).compare(
            first, second, _mean(measure.factory, target_NC, said), (low - high, high - low)
        )
        return asdict(found)

    def _known(self, answers: Sequence[str]) -> tuple[NDArray[np.bool_], Floats]:
        """Return which cases are known in any of the answers, and their targets ``(N, C)``."""
        target_NC = self._wide(self.models[0], answers, "target")
        kept = np.asarray(~np.isnan(target_NC).all(axis=1))
        return kept, target_NC[kept]

    def _wide(self, model: str, answers: Sequence[str], column: str) -> Floats:
        rows = self._table[self._table["model"] == model]
        wide = rows.pivot(index="case_key", columns="answer", values=column)
        return np.asarray(wide.loc[self._cases, list(answers)], np.float64)

    def _draws_of(self, kept: NDArray[np.bool_]) -> Draws:
        key = kept.tobytes()
        if key not in self._draws:
            self._draws[key] = Draws(self._patients_N[kept].tolist(), self._how)
        return self._draws[key]


def _mean(factory: Factory, target_NC: Floats, said: Sequence[Floats]) -> Weighted:
    """Return a statistic of each answer, and the mean of these; of several models pooled."""
    each = [
        pooled(factory, target_NC[:, column], [said_NC[:, column] for said_NC in said])
        for column in range(target_NC.shape[1])
    ]
    return each[0] if len(each) == 1 else mean_of(each)
