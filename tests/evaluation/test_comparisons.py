from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control
from sklearn.metrics import roc_auc_score

from medssl.evaluation.comparisons import (
    compare_means,
    compare_statistics,
    holm,
    sign_flip_p_value,
)
from medssl.evaluation.intervals import Resampling

QUICK = Resampling(resamples=50)


def slow_sign_flip(differences):
    """Every sign of every difference, counted."""
    observed, as_far = abs(sum(differences)), 0
    for signs in product((1, -1), repeat=len(differences)):
        total = abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        as_far += total >= observed - 1e-12
    return as_far / 2 ** len(differences)


def slow_exchange(statistic, targets, first, second, keys):
    """Every exchange of every patient's scores, counted."""
    patients = sorted(set(keys))

    def apart(swapped):
        a, b = list(first), list(second)
        for row, key in enumerate(keys):
            if swapped[patients.index(key)]:
                a[row], b[row] = b[row], a[row]
        return statistic(targets, np.array(a)) - statistic(targets, np.array(b))

    observed = abs(apart([False] * len(patients)))
    found = [abs(apart(s)) for s in product((False, True), repeat=len(patients))]
    return np.mean([value >= observed - 1e-12 for value in found])


@pytest.mark.parametrize("seed", range(4))
def test_the_p_value_of_few_patients_counts_every_sign(seed):
    differences = np.random.default_rng(seed).normal(0.5, 1, 9)
    p_value, is_exact = sign_flip_p_value(differences, Resampling(permutations=512))
    assert is_exact
    assert p_value == pytest.approx(slow_sign_flip(differences))


def test_many_patients_are_sampled_and_the_sample_is_near_the_truth():
    differences = np.random.default_rng(1).normal(0.5, 1, 12)
    p_value, is_exact = sign_flip_p_value(differences, Resampling(permutations=4095, seed=3))
    assert not is_exact
    exact = slow_sign_flip(differences)
    assert p_value == pytest.approx(exact, abs=4 * (exact / 4095) ** 0.5)
    assert p_value != exact


def test_the_least_p_value_is_that_of_all_patients_agreeing():
    assert sign_flip_p_value(np.ones(5))[0] == pytest.approx(2 / 32)
    assert sign_flip_p_value(np.ones(40), Resampling(permutations=999))[0] == pytest.approx(
        2 / 1000
    )
    assert sign_flip_p_value(np.zeros(4))[0] == 1
    assert sign_flip_p_value(np.ones(1)) == (1, True)
    assert np.isnan(sign_flip_p_value(np.empty(0))[0])


def test_chance_is_found_about_as_often_as_the_p_value_says():
    rng = np.random.default_rng(0)
    p_values = [sign_flip_p_value(rng.exponential(size=8) - rng.exponential(size=8))[0]
                for _ in range(300)]  # fmt: skip
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.08


def test_means_are_compared_by_patient():
    keys = ["a", "a", "b", "c", "d"]
    first, second = [0.9, 0.7, 0.8, 0.9, np.nan], [0.8, 0.5, 0.7, 0.95, 0.1]
    found = compare_means(first, second, keys)
    assert found.patients == 3
    assert found.difference == pytest.approx(np.mean([0.15, 0.1, -0.05]))
    assert found.low < found.difference < found.high
    assert found.is_exact
    assert found.p_value == pytest.approx(slow_sign_flip([0.15, 0.1, -0.05]))


@pytest.mark.parametrize("seed", range(3))
def test_exchanging_scores_of_few_patients_equals_its_slow_twin(seed):
    rng = np.random.default_rng(seed)
    keys = ["a", "a", "b", "c", "c", "c", "d", "e", "f"]
    targets = np.array([1, 0, 1, 0, 0, 1, 0, 1, 0])
    first, second = rng.random((2, 9)) + [[0.5], [0.1]] * targets
    found = compare_statistics(roc_auc_score, targets, (first, second), keys, how=QUICK)
    assert found.is_exact
    assert found.p_value == pytest.approx(
        slow_exchange(roc_auc_score, targets, first, second, keys)
    )
    areas = roc_auc_score(targets, first), roc_auc_score(targets, second)
    assert found.difference == pytest.approx(areas[0] - areas[1])


def test_a_better_model_is_found_and_a_copy_is_not():
    rng = np.random.default_rng(0)
    targets = np.arange(60) % 2
    good, poor = targets + rng.normal(0, 0.3, 60), targets + rng.normal(0, 3, 60)
    keys = [f"p{n // 2}" for n in range(60)]
    options = {"how": Resampling(resamples=100, permutations=199), "bounds": (-1, 1)}
    found = compare_statistics(roc_auc_score, targets, (good, poor), keys, **options)
    assert found.p_value <= 0.01
    assert found.low > 0
    same = compare_statistics(roc_auc_score, targets, (poor, poor), keys, **options)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_a_statistic_of_one_class_is_not_compared():
    def undefined(targets, scores):
        return float("nan")

    found = compare_statistics(undefined, np.ones(4), (np.ones(4),) * 2, list("abcd"))
    assert np.isnan([found.difference, found.low, found.p_value]).all()


def test_holm_by_hand():
    # in order 0.01 x 4, 0.02 x 3, 0.03 x 2 -> not below 0.06, 0.6 x 1
    assert holm([0.03, 0.01, 0.6, 0.02]) == pytest.approx([0.06, 0.04, 0.6, 0.06])
    assert holm([0.5, np.nan, 0.01]) == pytest.approx([0.5, np.nan, 0.02], nan_ok=True)
    assert len(holm([])) == 0


def slow_holm(p_values):
    """The least level at which each is rejected: step down, stop at the first that is not."""
    found = []
    for wanted in range(len(p_values)):
        candidates = sorted(min(p * (len(p_values) - k), 1) for k, p in enumerate(sorted(p_values)))
        for level in candidates:
            left, rejected = dict(enumerate(p_values)), set()
            while left:
                least = min(left, key=left.__getitem__)
                if left[least] * len(left) > level + 1e-15 and level < 1:
                    break
                rejected.add(least)
                del left[least]
            if wanted in rejected:
                found.append(level)
                break
    return found


p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(p_values)
def test_holm_equals_its_slow_twin(values):
    assert holm(values) == pytest.approx(slow_holm(values))


@given(p_values)
def test_holm_keeps_the_order_and_is_between_each_p_value_and_bonferroni(values):
    found, given_ = holm(values), np.array(values)
    order = np.argsort(given_)
    assert (np.diff(found[order]) >= 0).all()
    assert (found >= given_).all()
    assert (found <= np.minimum(given_ * len(given_), 1)).all()
    assert (found >= false_discovery_control(given_) - 1e-12).all()
