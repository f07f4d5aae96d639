import numpy as np
import pytest

from medssl.evaluation.frozen.answers import mean_recall
from medssl.evaluation.frozen.results import OfAnswers, OfSet, PerCase, PerDraw
from medssl.evaluation.intervals import Resampling

HOW = Resampling(resamples=300)
PATIENTS = tuple(f"p{n // 2}" for n in range(24))


def noisy(seed):
    return np.random.default_rng(seed).random(24)


def test_a_patient_counts_once_and_nan_does_not():
    values = np.array([1.0, 1.0, 1.0, 0.0, np.nan])
    found = PerCase(values, ("a", "a", "a", "b", "c")).estimate(HOW)
    assert found.mean == 0.5
    assert found.patients == 2


def test_differences_are_paired():
    base = noisy(0)
    first, second = PerCase(base * 0.5 + 0.1, PATIENTS), PerCase(base * 0.5, PATIENTS)
    found = first.difference(second, HOW)
    assert found.mean == pytest.approx(0.1)
    assert found.high - found.low < 1e-9  # though each alone is uncertain
    alone = first.estimate(HOW)
    assert alone.high - alone.low > 0.05


def test_intervals_of_shares_end_at_0_and_1_and_of_differences_at_1():
    ones, zeros = PerCase(np.array([1.0, 1, 0]), tuple("abc")), PerCase(np.zeros(3), tuple("abc"))
    assert ones.estimate(HOW).high == 1
    assert ones.difference(zeros, HOW).high == 1
    assert zeros.difference(ones, HOW).low == -1


def test_statistics_of_answers_are_paired_too():
    labels = np.arange(24) // 2 % 2
    y = np.eye(2)[labels]
    shares = np.stack([noisy(1), noisy(2)], axis=1)
    better = shares + 0.4 * y
    first, second = (OfAnswers(mean_recall, y, s, PATIENTS) for s in (better, shares))
    found = first.difference(second, HOW)
    assert found.mean == pytest.approx(mean_recall(y, better) - mean_recall(y, shares))
    assert found.low > 0
    assert first.difference(first, HOW).high == 0
    assert found.patients == 12


def test_draws_of_both_encoders_are_compared_one_by_one():
    right = (np.random.default_rng(0).random((10, 24)) < 0.5).astype(float)
    labels = tuple((np.arange(24) % 2).tolist())
    first, second = PerDraw(right, labels, PATIENTS), PerDraw(1 - right, labels, PATIENTS)
    found = first.difference(second, HOW)
    assert found.mean == pytest.approx(first.estimate(HOW).mean - second.estimate(HOW).mean)
    assert first.difference(first, HOW).high == 0


def test_a_number_of_the_set_has_no_interval():
    found = OfSet(3.0, 7).difference(OfSet(1.0, 7), HOW)
    assert found.mean == 2
    assert np.isnan(found.low)
