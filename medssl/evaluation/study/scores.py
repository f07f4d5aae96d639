"""Scores of both starts over seeds and patients, and what is sure about them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from medssl.errors import InputError
from medssl.evaluation.comparisons import compare_statistics, holm, sign_flip_p_value
from medssl.evaluation.frozen.answers import mean_auroc
from medssl.evaluation.intervals import NAN, Estimate, Floats, Resampling, rows_by_patient
from medssl.evaluation.kinds.classification import AUROC
from medssl.evaluation.kinds.regression import MAE
from medssl.evaluation.kinds.segmentation import DICE
from medssl.evaluation.study.two_way import pseudovalues, two_way_mean
from medssl.evaluation.summary import MEAN, PRETRAINED, SCRATCH, Metric, by_case, verdict

Json = dict[str, Any]
STARTS: Final = (PRETRAINED, SCRATCH)
FEW_SEEDS: Final = 5
"""Fewer say little about the chance of training."""
HEADLINES: Final = {metric.column: metric for metric in (DICE, AUROC, MAE)}
"""What the verdict of an evaluation is mostly about, by the name of its column."""
PER_CASE: Final = (
    "Of each seed and start, a patient has the mean over cases and structures; these are averaged "
    "over patients, then over seeds."
)
RANKED: Final = (
    "Of each seed and start, the area under the curve is that of all patients; a patient's part in "
    "it is a jackknife pseudovalue (Dorfman, Berbaum & Metz 1992)."
)


def headline_of(metrics: Json) -> tuple[Metric, str]:
    """Return what the verdict of an evaluation is about, and of which answer."""
    column, answer = metrics["headline"]["metric"], str(metrics["headline"]["answer"])
    if column in HEADLINES:
        return HEADLINES[column], answer
    about = next(about for about in metrics["shown"] if about["column"] == column)
    low, high = about["bounds"]
    bounds = (-np.inf if low is None else low, np.inf if high is None else high)
    return Metric(column, about["title"], bounds, about["larger_is_better"]), answer


class Scores(NamedTuple):
    """What both starts reach with some share of the labels."""

    by_seed: dict[str, Floats]
    """By start: the score of each seed."""
    values_SP: dict[str, Floats]
    """By start: a row per seed, a column per patient, whose mean is the seed's score; NaN where a
    patient decides whether there is a score at all."""
    p_value: float
    """Of exchanging the two starts of patients; means over seeds are exchanged."""


def compare(rows: pd.DataFrame, metric: Metric, answer: str, how: Resampling) -> Json:
    """Return the means of both starts and their difference, with intervals, of one share of labels.

    Args:
        rows: Rows of ``cases.csv`` of several evaluations of the same cases, with a column
            ``seed``.
        metric: The headline.
        answer: Of which answer, or ``MEAN``.
        how: Confidence, exchanges and their seed.
    """
    found = (_ranked if metric.column == AUROC.column else _averaged)(rows, metric, answer, how)
    low, high = metric.bounds
    first, second = (found.by_seed[start] for start in STARTS)
    parts_SP = found.values_SP[PRETRAINED] - found.values_SP[SCRATCH]
    told = _told(first - second, parts_SP, how, (low - high, high - low))
    return {
        **{
            start: _told(found.by_seed[start], found.values_SP[start], how, metric.bounds)
            for start in STARTS
        },
        "difference": {"difference": told.pop("value"), **told, "p_value": found.p_value},
    }


def _told(score_S: Floats, values_SP: Floats, how: Resampling, bounds: tuple[float, float]) -> Json:
    found = Estimate(mean=NAN, low=NAN, high=NAN, patients=values_SP.shape[1])
    if values_SP.size and not np.isnan(values_SP).any():
        found = two_way_mean(values_SP, how, bounds)
    ends = {"low": found.low, "high": found.high, "patients": found.patients}
    return {"value": float(score_S.mean()), **ends, "by_seed": score_S.tolist()}


def _averaged(rows: pd.DataFrame, metric: Metric, answer: str, how: Resampling) -> Scores:
    """Return what is a mean over patients of what each case has."""
    by_start: dict[str, list[pd.Series[float]]] = {start: [] for start in STARTS}
    for _, of_seed in rows.groupby("seed", sort=True):
        wide = by_case(of_seed, metric.column)
        for start, found in by_start.items():
            found.append(wide[start, answer].groupby(level="patient_key").mean())
    tables = {
        start: pd.concat(found, axis=1, keys=range(len(found))).T
        for start, found in by_start.items()
    }
    known = ~(tables[PRETRAINED] + tables[SCRATCH]).isna().any()
    values_SP = {
        start: np.asarray(table.loc[:, known], np.float64) for start, table in tables.items()
    }
    if not known.any():
        raise InputError("no patient that is judged has a score: no reference holds anything")
    difference_P = (values_SP[PRETRAINED] - values_SP[SCRATCH]).mean(axis=0)
    p_value, _ = sign_flip_p_value(difference_P, how)
    by_seed = {start: values.mean(axis=1) for start, values in values_SP.items()}
    return Scores(by_seed, values_SP, p_value)


def _ranked(rows: pd.DataFrame, metric: Metric, answer: str, how: Resampling) -> Scores:
    """Return areas under the curve, in parts that patients have in them."""
    answers = list(dict.fromkeys(rows["answer"])) if answer == MEAN else [answer]
    rows = rows.sort_values("case_key", kind="stable")
    patients = rows.drop_duplicates("case_key")["patient_key"].tolist()
    targets_NC = _matrix(rows[rows["seed"] == rows["seed"].iloc[0]], SCRATCH, answers, "target")
    scores_NSC = {
        start: np.stack(
            [
                _matrix(of_seed, start, answers, "probability")
                for _, of_seed in rows.groupby("seed", sort=True)
            ],
            axis=1,
        )
        for start in STARTS
    }
    seeds = range(scores_NSC[SCRATCH].shape[1])
    by_seed = {
        start: np.array([mean_auroc(targets_NC, of_start[:, seed]) for seed in seeds])
        for start, of_start in scores_NSC.items()
    }
    values_SP = {
        start: np.stack([_parts(targets_NC, of_start[:, seed], patients) for seed in seeds])
        for start, of_start in scores_NSC.items()
    }
    compared = compare_statistics(
        _mean_over_seeds,
        targets_NC,
        (scores_NSC[PRETRAINED], scores_NSC[SCRATCH]),
        patients,
        how=replace(how, resamples=100),  # its interval knows nothing of seeds, and is not used
        bounds=(-1.0, 1.0),
    )
    return Scores(by_seed, values_SP, compared.p_value)


def _matrix(rows: pd.DataFrame, start: str, answers: Sequence[str], column: str) -> Floats:
    wide = rows[rows["model"] == start].pivot_table(
        index="case_key", columns="answer", values=column, dropna=False
    )
    return np.asarray(wide.sort_index()[list(answers)], np.float64)


def _mean_over_seeds(targets_NC: Floats, scores_NSC: Floats) -> float:
    return float(
        np.mean([mean_auroc(targets_NC, scores_NSC[:, s]) for s in range(scores_NSC.shape[1])])
    )


def _parts(targets_NC: Floats, scores_NC: Floats, patients: Sequence[str]) -> Floats:
    whole = mean_auroc(targets_NC, scores_NC)
    without_P = np.array(
        [
            mean_auroc(np.delete(targets_NC, of_one, 0), np.delete(scores_NC, of_one, 0))
            for of_one in rows_by_patient(patients)
        ]
    )
    return pseudovalues(whole, without_P)


def corrected(found: Sequence[Json]) -> None:
    """Add ``p_holm`` to the differences of all shares of labels: one family (Holm 1979)."""
    differences = [row["difference"] for row in found]
    adjusted = holm([difference["p_value"] for difference in differences])
    for difference, value in zip(differences, adjusted.tolist(), strict=True):
        difference["p_holm"] = value


def sentence(row: Json, metric: Metric, confidence: float) -> str:
    """Return what one share of the labels shows, and how sure that is."""
    patients, seeds = row["patients"], len(row["seeds"])
    said = verdict({"differences": {metric.column: {MEAN: row["difference"]}}}, metric, confidence)
    many = "" if patients == 1 else "s"
    return (
        f"{patients} labelled patient{many} ({100 * row['fraction']:g} %), {seeds} "
        f"seed{'' if seeds == 1 else 's'}: {said} {_of_seeds(row['difference'], metric)}"
    )


def _of_seeds(difference: Json, metric: Metric) -> str:
    """Return what the seeds say one by one, and what their number cannot."""
    by_seed = difference["by_seed"]
    if len(by_seed) == 1:
        return "One seed does not tell how another training would have ended."
    better = sum(value != 0 and (value > 0) == metric.larger_is_better for value in by_seed)
    said = f"It was better in {better} of {len(by_seed)} seeds."
    if difference["low"] <= 0 <= difference["high"] and len(by_seed) < FEW_SEEDS:
        said += f" So few widen the interval: the same command with {FEW_SEEDS} goes on from here."
    return said
