import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm, t
from sklearn.metrics import roc_auc_score

from medssl.evaluation.intervals import (
    Estimate,
    Resampling,
    bca_interval,
    bootstrap_statistic,
    mean_over_patients,
    pigeonhole_mean,
)


def widening(patients, confidence):
    level = (1 + confidence) / 2
    return t.ppf(level, patients - 1) / norm.ppf(level) * np.sqrt(patients / (patients - 1))


def slow_interval(values, patients, *, resamples, confidence, seed):
    """Draw patients with replacement, one resample after the other; the jackknife too."""
    means = [
        np.mean([v for v, p in zip(values, patients, strict=True) if p == key])
        for key in sorted(set(patients))
    ]
    count, mean = len(means), np.mean(means)
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        chosen = rng.integers(0, count, count)
        draws.append(sum(means[index] for index in chosen) / count)
    bias = norm.ppf(sum(draw < mean for draw in draws) / resamples)
    without = [np.mean([m for k, m in enumerate(means) if k != left]) for left in range(count)]
    apart = [np.mean(without) - value for value in without]
    acceleration = sum(a**3 for a in apart) / (6 * sum(a**2 for a in apart) ** 1.5)
    ends = []
    for z in norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2]):
        level = norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        end = np.percentile(draws, 100 * level)
        ends.append(mean + (end - mean) * widening(count, confidence))
    return mean, *ends


def test_the_interval_equals_its_slow_twin_up_to_the_draws():
    rng = np.random.default_rng(3)
    values, patients = rng.beta(5, 1, 20).tolist(), [f"p{n % 13}" for n in range(20)]
    found = mean_over_patients(values, patients, resamples=20000, confidence=0.9, seed=1)
    mean, low, high = slow_interval(values, patients, resamples=20000, confidence=0.9, seed=2)
    assert found.patients == 13
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), abs=3e-3)


def test_without_the_widening_it_is_the_bca_interval_of_scipy():
    values = np.random.default_rng(0).beta(5, 1, 15)
    found = mean_over_patients(values.tolist(), [f"{n:02}" for n in range(15)], resamples=20000)
    scipy = bootstrap(
        (values,), np.mean, n_resamples=20000, method="BCa", rng=np.random.default_rng(5)
    ).confidence_interval
    mean, factor = values.mean(), widening(15, 0.95)
    unwidened = [mean + (end - mean) / factor for end in (found.low, found.high)]
    assert unwidened == pytest.approx(list(scipy), abs=3e-3)


def test_a_patient_counts_once_and_nan_does_not_count():
    found = mean_over_patients([0.0, 1.0, 1.0, 1.0, float("nan")], ["a", "b", "b", "b", "c"])
    assert found.mean == 0.5
    assert found.patients == 2


def test_a_seed_gives_the_same_interval_and_equal_values_a_point():
    values, keys = [0.1, 0.5, 0.9, 0.7], list("abcd")
    assert mean_over_patients(values, keys, seed=5) == mean_over_patients(values, keys, seed=5)
    equal = mean_over_patients([0.5] * 4, keys)
    assert (equal.low, equal.mean, equal.high) == (0.5, 0.5, 0.5)


def test_one_patient_has_no_interval_and_none_has_no_mean():
    one = mean_over_patients([0.5, 0.7], ["a", "a"])
    assert one.mean == pytest.approx(0.6)
    assert np.isnan(one.low)
    assert one.includes(0)
    assert np.isnan(mean_over_patients([float("nan")], ["a"]).mean)


def test_an_interval_includes_its_ends():
    found = Estimate(mean=0.1, low=0.0, high=0.2, patients=3)
    assert found.includes(0.0)
    assert not found.includes(-0.01)


def test_an_interval_ends_where_its_values_do():
    values, keys = [0.99, 0.98, 0.5, 0.97], list("abcd")
    free, bound = (mean_over_patients(values, keys, **b) for b in ({}, {"bounds": (0, 1)}))
    assert free.high > 1
    assert (bound.low, bound.high) == (max(free.low, 0), 1)


def test_one_failure_among_many_patients_does_not_break_the_interval():
    values = [*np.linspace(0.9, 0.91, 29), 0.0]
    found = mean_over_patients(values, [f"{n:02}" for n in range(30)])
    assert found.low < 0.87 < found.mean < found.high < 0.95


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
@settings(max_examples=60, deadline=None)
def test_every_interval_holds_its_estimate(values):
    keys = [f"{n:02}" for n in range(len(values))]
    found = mean_over_patients(values, keys, resamples=100, bounds=(0, 1))
    assert 0 <= found.low <= found.mean <= found.high <= 1


def test_a_statistic_of_one_case_each_has_the_interval_of_the_mean():
    values = np.random.default_rng(0).beta(5, 1, 12)
    keys = [f"{n:02}" for n in range(12)]
    found = bootstrap_statistic(np.mean, (values,), keys, how=Resampling(resamples=500, seed=4))
    mean = mean_over_patients(values.tolist(), keys, resamples=500, seed=4)
    assert (found.value, found.low, found.high) == pytest.approx((mean.mean, mean.low, mean.high))


def area(targets, scores):
    return roc_auc_score(targets, scores) if len(set(targets)) == 2 else float("nan")


def slow_draws(targets, scores, keys, *, resamples, seed):
    """Every draw of patients written out case by case."""
    patients, rng = sorted(set(keys)), np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = [patients[n] for n in rng.integers(len(patients), size=len(patients))]
        rows = [row for name in drawn for row, key in enumerate(keys) if key == name]
        found.append(area([targets[row] for row in rows], [scores[row] for row in rows]))
    return np.array(found)


def test_all_cases_of_a_drawn_patient_come_along_and_undefined_draws_are_counted():
    rng = np.random.default_rng(2)
    keys = ["c", "a", "b", "a", "d", "e", "e", "f"]
    targets, scores = np.array([1, 0, 0, 0, 1, 0, 1, 0]), rng.random(8)
    found = bootstrap_statistic(
        area, (targets, scores), keys, how=Resampling(resamples=300, seed=7)
    )
    draws = slow_draws(targets, scores, keys, resamples=300, seed=7)
    assert found.undefined_draws == np.isnan(draws).sum() > 0
    without = [
        area(targets[left], scores[left])
        for key in sorted(set(keys))
        if (left := np.array([k != key for k in keys])).any()
    ]
    twin = bca_interval(draws[~np.isnan(draws)], found.value, np.array(without), 0.95)
    assert (found.low, found.high) == pytest.approx(twin)
    assert found.value == area(targets, scores)
    assert found.patients == 6


def test_a_statistic_that_is_seldom_defined_has_no_interval():
    targets, scores = np.array([1, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3])
    one_patient = bootstrap_statistic(area, (targets, scores), ["a"] * 4)
    assert (one_patient.value, one_patient.patients) == (1, 1)
    assert np.isnan(one_patient.low)
    undefined = bootstrap_statistic(area, (np.ones(4), scores), list("abcd"))
    assert np.isnan([undefined.value, undefined.high]).all()
    both = np.array([1, 0])
    seldom = bootstrap_statistic(area, (both, both), ["a", "b"], how=Resampling(resamples=400))
    assert 150 < seldom.undefined_draws < 250
    none = bootstrap_statistic(area, (np.empty(0), np.empty(0)), [])
    assert np.isnan(none.value)


def test_a_statistic_that_hangs_on_one_patient_has_no_interval():
    targets, scores = np.array([1, 0, 1]), np.array([0.9, 0.2, 0.4])  # without a: one class alone
    found = bootstrap_statistic(area, (targets, scores), ["a", "a", "b"])
    assert found.value == 1
    assert 2 * found.undefined_draws < 2000
    assert np.isnan([found.low, found.high]).all()


def slow_pigeonhole(values_SP, resamples, seed):
    """Draw seeds and patients anew, one draw after the other."""
    rng = np.random.default_rng(seed)
    seeds, patients = values_SP.shape
    rows = rng.integers(seeds, size=(resamples, seeds))
    columns = rng.integers(patients, size=(resamples, patients))
    means = [np.mean([[values_SP[s, p] for p in c] for s in r])
             for r, c in zip(rows, columns, strict=True)]  # fmt: skip
    return (values_SP.mean(), *np.percentile(means, [5, 95]))


def test_seeds_and_patients_are_both_drawn():
    values_SP = np.random.default_rng(1).random((3, 7))
    found = pigeonhole_mean(values_SP, resamples=60, confidence=0.9, seed=2)
    assert (found.mean, found.low, found.high) == pytest.approx(slow_pigeonhole(values_SP, 60, 2))
    assert found.patients == 7


def test_seeds_that_differ_make_the_interval_wider_than_patients_alone():
    patients = np.linspace(0.7, 0.9, 8)
    same, apart = np.tile(patients, (3, 1)), patients + np.array([[-0.2], [0.0], [0.2]])
    narrow, wide = pigeonhole_mean(same), pigeonhole_mean(apart)
    assert wide.mean == pytest.approx(narrow.mean)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
