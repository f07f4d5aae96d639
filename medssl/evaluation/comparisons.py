"""Two models on the same patients: how much they differ, and whether chance could do that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

from medssl.evaluation.intervals import (
    ANYTHING,
    DEFAULT,
    NAN,
    Floats,
    Interval,
    Resampling,
    Statistic,
    bootstrap_statistic,
    mean_over_patients,
    patient_means,
    rows_by_patient,
)

_AT_ONCE: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Comparison(Interval):
    """The first model less the second, paired by patient; NaN where it is undefined."""

    difference: float
    p_value: float
    """Two-sided: how often models that are alike would differ by as much."""
    is_exact: bool
    """All exchanges were counted, rather than a sample of them."""


def compare_means(
    first: Sequence[float],
    second: Sequence[float],
    patient_keys: Sequence[str],
    *,
    how: Resampling = DEFAULT,
    bounds: tuple[float, float] = ANYTHING,
) -> Comparison:
    """Return the mean difference over patients of two models that scored the same cases.

    The interval is that of ``mean_over_patients`` of the differences. The p-value is that of
    ``sign_flip_p_value``. A case that either model has no score of (NaN) does not count.

    Args:
        first: Scores of one model, one per case.
        second: Scores of the other model on the same cases.
        patient_keys: Whose case it is.
        how: Number of draws and of exchanges, confidence and seed.
        bounds: What the difference can be, (-1, 1) for Dice.
    """
    differences = (np.asarray(first, np.float64) - np.asarray(second, np.float64)).tolist()
    found = mean_over_patients(
        differences,
        patient_keys,
        resamples=how.resamples,
        confidence=how.confidence,
        seed=how.seed,
        bounds=bounds,
    )
    p_value, is_exact = sign_flip_p_value(patient_means(differences, patient_keys), how)
    return Comparison(
        difference=found.mean,
        low=found.low,
        high=found.high,
        patients=found.patients,
        p_value=p_value,
        is_exact=is_exact,
    )


def sign_flip_p_value(differences_P: Floats, how: Resampling = DEFAULT) -> tuple[float, bool]:
    """Return the two-sided p-value of a mean difference, and whether it is exact.

    Were the models alike, each patient's difference could as well have the other sign (Fisher
    1935, The Design of Experiments, section 21). All 2^P signs are counted where these are no
    more than ``how.permutations``; else a random sample of them, and the data themselves (Phipson &
    Smyth 2010, Stat Appl Genet Mol Biol 9:39). Of P patients no p-value is below 2 / 2^P: five
    cannot reach 0.05.

    Args:
        differences_P: One per patient.
        how: How many signs are tried at most, and the seed of the sample.
    """
    if not len(differences_P):
        return NAN, False
    if len(differences_P) == 1:
        return 1.0, True  # either sign is as far from 0
    found = permutation_test(
        (differences_P,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=how.permutations,
        batch=_AT_ONCE,
        rng=np.random.default_rng(how.seed),
    )
    return min(float(found.pvalue), 1.0), _is_exact(len(differences_P), how)


def compare_statistics(
    statistic: Statistic,
    targets: NDArray[Any],
    scores: tuple[NDArray[Any], NDArray[Any]],
    patient_keys: Sequence[str],
    *,
    how: Resampling = DEFAULT,
    bounds: tuple[float, float] = ANYTHING,
) -> Comparison:
    """Return by how much a statistic, such as ``auroc``, of two models differs.

    The interval draws patients, with the cases and both models' scores of each. The p-value
    exchanges the two models' scores of whole patients: were the models alike, it would not
    matter whose is whose. Exchanges are counted or sampled as in ``sign_flip_p_value``. The
    scores of both have to be on one scale, as probabilities are: else they are not exchangeable.

    Args:
        statistic: Called with targets and scores.
        targets: A row per case.
        scores: Of the first model and of the second, a row per case.
        patient_keys: Whose case it is.
        how: Number of draws and of exchanges, confidence and seed.
        bounds: What the difference can be, (-1, 1) for areas under the curve.
    """

    def difference(targets: NDArray[Any], first: NDArray[Any], second: NDArray[Any]) -> float:
        return statistic(targets, first) - statistic(targets, second)

    found = bootstrap_statistic(
        difference,
        (targets, *scores),
        patient_keys,
        how=how,
        bounds=bounds,
    )
    p_value = NAN
    if not np.isnan(found.value):
        p_value = _exchange_p_value(difference, targets, scores, patient_keys, how)
    return Comparison(
        difference=found.value,
        low=found.low,
        high=found.high,
        patients=found.patients,
        p_value=p_value,
        is_exact=_is_exact(found.patients, how),
    )


def _exchange_p_value(
    difference: Statistic,
    targets: NDArray[Any],
    scores: tuple[NDArray[Any], NDArray[Any]],
    patient_keys: Sequence[str],
    how: Resampling,
) -> float:
    rows = rows_by_patient(patient_keys)
    if len(rows) == 1:
        return 1.0
    patient_of_N = np.empty(len(targets), np.intp)
    for patient, of_patient in enumerate(rows):
        patient_of_N[of_patient] = patient
    both, every = np.stack(scores), np.arange(len(targets))

    def exchanged(whose_P: NDArray[np.int64], others_P: NDArray[np.int64]) -> float:
        first = both[whose_P[patient_of_N], every]
        return difference(targets, first, both[others_P[patient_of_N], every])

    found = permutation_test(
        (np.zeros(len(rows), int), np.ones(len(rows), int)),
        exchanged,
        permutation_type="samples",
        vectorized=False,
        n_resamples=how.permutations,
        rng=np.random.default_rng(how.seed),
    )
    return min(float(found.pvalue), 1.0)


def _is_exact(patients: int, how: Resampling) -> bool:
    return bool(2**patients <= how.permutations)


def holm(p_values: Sequence[float]) -> Floats:
    """Return p-values corrected for their number: those below 0.05 hold for all of them at once.

    The step-down method of Holm 1979 (Scand J Stat 6:65): of m p-values in ascending order, the
    k-th is multiplied by m - k + 1, and none may be below the one before. NaN is no test, and
    stays.
    """
    p_M = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(len(p_M), np.nan)
    order = np.argsort(p_M)[: int(np.sum(~np.isnan(p_M)))]  # NaN comes last
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p_M[order] * factors), 1)
    return corrected
