"""Intervals hold the true value about as often as they say, at the sizes of medical test sets."""

import numpy as np
import pytest
from scipy.stats import norm

from medssl.evaluation.intervals import Resampling, bootstrap_statistic, mean_over_patients

SKEWED = {"dice": (8, 2), "good dice": (9, 1), "almost perfect dice": (5, 0.5)}
"""Beta distributions: of a mean of 0.8, 0.9 and 0.91, ever more skewed."""


def coverage_of_means(patients, a, b, draws, seed):
    rng = np.random.default_rng(seed)
    keys = [f"p{n:02}" for n in range(patients)]
    intervals = [
        mean_over_patients(rng.beta(a, b, patients).tolist(), keys, seed=n, bounds=(0, 1))
        for n in range(draws)
    ]
    return np.mean([found.includes(a / (a + b)) for found in intervals])


def area(positive, scores):
    """AUROC as the share of pairs in order; quicker than a library at this size."""
    return (
        np.mean(scores[positive][:, None] > scores[~positive])
        if 0 < positive.mean() < 1
        else np.nan
    )


def coverage_of_areas(patients, truth, draws, resamples, seed):
    rng = np.random.default_rng(seed)
    keys = [f"p{n:02}" for n in range(patients)]
    held = []
    for n in range(draws):
        positive = rng.random(patients) < 0.4
        scores = rng.normal(size=patients) + positive * norm.ppf(truth) * 2**0.5
        options = {"how": Resampling(resamples=resamples, seed=n), "bounds": (0, 1)}
        found = bootstrap_statistic(area, (positive, scores), keys, **options)
        held.append(found.includes(truth))
    return np.mean(held)


@pytest.mark.parametrize("patients", [20, 40, 60])
@pytest.mark.parametrize("name", ["dice", "good dice"])
def test_intervals_of_skewed_means_cover(name, patients):
    assert 0.93 <= coverage_of_means(patients, *SKEWED[name], draws=500, seed=0) <= 0.97


def test_percentiles_alone_would_not_cover():
    rng, a, b = np.random.default_rng(0), *SKEWED["good dice"]
    held = []
    for _ in range(500):
        means = rng.choice(rng.beta(a, b, 20), (1000, 20)).mean(axis=1)
        low, high = np.percentile(means, [2.5, 97.5])
        held.append(low <= a / (a + b) <= high)
    assert np.mean(held) < 0.93


def test_intervals_of_areas_under_the_curve_cover():
    assert 0.93 <= coverage_of_areas(60, 0.8, draws=500, resamples=200, seed=0) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("patients", [20, 40, 60])
@pytest.mark.parametrize("name", SKEWED)
def test_intervals_of_skewed_means_cover_over_many_draws(name, patients):
    assert 0.925 <= coverage_of_means(patients, *SKEWED[name], draws=2000, seed=1) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.7, 0.8, 0.9])
def test_intervals_of_areas_under_the_curve_cover_over_many_draws(truth):
    assert 0.93 <= coverage_of_areas(60, truth, draws=600, resamples=1000, seed=1) <= 0.97
