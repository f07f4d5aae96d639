"""Numbers of a page: every score of every model with its interval, and the paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from medssl.evaluation.comparisons import Comparison, compare_means, holm
from medssl.evaluation.intervals import ANYTHING, Estimate, Resampling, mean_over_patients

MEAN: Final = "mean"
"""Stands beside the names of answers for the mean over those that a case has."""
PRETRAINED, SCRATCH = "pretrained", "scratch"
Json = dict[str, Any]


class Metric(NamedTuple):
    """A number that a case has, or all cases together."""

    column: str
    """Its name in the tables."""
    title: str
    """For people, with its unit."""
    bounds: tuple[float, float] = ANYTHING
    """What it can be."""
    larger_is_better: bool = True


def primary(answers: Sequence[str]) -> str:
    """Return the answer that speaks for all: the only one, or the mean over them."""
    return answers[0] if len(answers) == 1 else MEAN


def summarise_means(
    table: pd.DataFrame, metrics: Sequence[Metric], how: Resampling, *, differences: bool = True
) -> Json:
    """Return means over patients of what each case has, and differences of the twins.

    Args:
        table: A row per case, model and answer: ``case_key``, ``patient_key``, ``model``,
            ``answer`` and a column per metric; NaN where there is none.
        metrics: Which columns.
        how: How intervals and p-values are made.
        differences: Whether twins are compared.

    Returns:
        ``scores[column][model][answer]`` and ``differences[column][answer]``; of several answers
        also their mean.
    """
    scores, compared = Json(), Json()
    answers = [str(answer) for answer in dict.fromkeys(table["answer"])]
    answers += [MEAN] if len(answers) > 1 else []
    for metric in metrics:
        wide = by_case(table, metric.column)
        models = list(dict.fromkeys(wide.columns.get_level_values("model")))
        scores[metric.column] = {
            model: {answer: _value(_mean(wide[model, answer], metric, how)) for answer in answers}
            for model in models
        }
        if differences and {PRETRAINED, SCRATCH} <= set(models):
            compared[metric.column] = {
                answer: asdict(
                    _difference(wide[PRETRAINED, answer], wide[SCRATCH, answer], metric, how)
                )
                for answer in answers
            }
    return {"scores": scores, "differences": compared}


def by_case(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a metric with a row per case and a column per (model, answer), the mean included."""
    cases, columns = ["case_key", "patient_key"], ["model", "answer"]
    wide = table.set_index([*cases, *columns])[column].unstack(columns)
    wide = wide.reindex(pd.MultiIndex.from_frame(table[cases].drop_duplicates()))
    wide = wide[pd.MultiIndex.from_frame(table[columns].drop_duplicates())]
    answers = list(dict.fromkeys(table["answer"]))
    for model in dict.fromkeys(table["model"]):
        wide[model, MEAN] = wide[model][answers].mean(axis=1)  # NaN does not count
    return wide


def _mean(values: "pd.Series[float]", metric: Metric, how: Resampling) -> Estimate:
    return mean_over_patients(
        values.to_list(),
        patients_of(values),
        resamples=how.resamples,
        confidence=how.confidence,
        seed=how.seed,
        bounds=metric.bounds,
    )


def _difference(
    first: "pd.Series[float]", second: "pd.Series[float]", metric: Metric, how: Resampling
) -> Comparison:
    low, high = metric.bounds
    return compare_means(
        first.to_list(),
        second.to_list(),
        patients_of(first),
        how=how,
        bounds=(low - high, high - low),
    )


def patients_of(values: "pd.Series[float]") -> list[str]:
    """Return whose each row is."""
    return [str(key) for key in values.index.get_level_values("patient_key")]


def _value(estimate: Estimate) -> Json:
    found = asdict(estimate)
    return {"value": found.pop("mean"), **found}


def corrected(differences: Mapping[str, Any], headline: str, primary: str = MEAN) -> None:
    """Add ``p_holm`` to differences: the p-value, corrected for how many were tried.

    The headline was named before anything was seen and stands alone; all others are one family
    (Holm 1979).
    """
    places = [
        found
        for column, by_answer in differences.items()
        for answer, found in by_answer.items()
        if (column, answer) != (headline, primary)
    ]
    tested = [found for found in places if not np.isnan(found["p_value"])]
    adjusted = holm([found["p_value"] for found in tested])
    for found, value in zip(tested, adjusted.tolist(), strict=True):
        found["p_holm"] = value


def verdict(
    metrics: Mapping[str, Any], headline: Metric, confidence: float, answer: str = MEAN
) -> str:
    """Return in one sentence whether pretraining helped, and how sure that is."""
    found = metrics["differences"].get(headline.column, {}).get(answer)
    if found is None:
        return "There is one model, so there is nothing to compare it with."
    change, low, high = found["difference"], found["low"], found["high"]
    name, patients = headline.title, found["patients"]
    if np.isnan(low):
        return f"Too few patients ({patients}) to say whether pretraining made a difference."
    interval = f"{low:+.3f} to {high:+.3f}, {confidence:.0%} interval"
    if low <= 0 <= high:
        return (
            f"No difference is shown: pretraining changed {name} by {change:+.3f} over {patients} "
            f"patients, and the interval includes 0 ({interval})."
        )
    moved = "raised" if change > 0 else "lowered"
    better = "" if headline.larger_is_better else ", and lower is better"
    return (
        f"Pretraining {moved} {name} by {abs(change):.3f} over {patients} patients "
        f"({interval}){better}."
    )
