"""Every weighted statistic against its definition on cases repeated as often as they weigh."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    r2_score,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)

from medssl.evaluation import weighted
from medssl.evaluation.calibration import calibration_errors, reliability_table
from medssl.evaluation.classification_metrics import auroc
from medssl.evaluation.comparisons import compare_statistics
from medssl.evaluation.draws import Draws
from medssl.evaluation.intervals import Resampling, bootstrap_statistic

RNG = np.random.default_rng(0)
NAN = float("nan")


def both(targets):
    return len(np.unique(targets)) == 2


TWINS = {
    "auroc": (weighted.auroc, lambda t, s: roc_auc_score(t, s) if both(t) else NAN),
    "auprc": (weighted.auprc, lambda t, s: average_precision_score(t, s) if t.any() else NAN),
    "brier": (weighted.brier, lambda t, s: sum((t - s) ** 2) / len(t)),
    "bias": (weighted.bias, lambda t, s: sum(s - t) / len(t)),
    "rmse": (weighted.root_mean_square, root_mean_squared_error),
    "r2": (weighted.r2, lambda t, s: r2_score(t, s) if both(t) else NAN),
    "ece": (
        weighted.calibration_error(4),
        lambda t, s: calibration_errors(reliability_table(t, s, bins=4)).expected,
    ),
}  # fmt: skip
DECIDED = {
    "sensitivity": (weighted.sensitivity, lambda t, d: recall_score(t, d) if t.any() else NAN),
    "specificity": (
        weighted.specificity,
        lambda t, d: recall_score(t, d, pos_label=0) if (t == 0).any() else NAN,
    ),
    "accuracy": (weighted.accuracy, lambda t, d: np.mean(t == d)),
    "balanced": (
        weighted.balanced_accuracy,
        lambda t, d: balanced_accuracy_score(t, d) if both(t) else NAN,
    ),
    "f1": (weighted.f1, lambda t, d: f1_score(t, d) if t.any() else NAN),
}


def check(factory, twin, targets, said, weights):
    repeated = np.repeat(np.arange(len(targets)), weights)
    known = repeated[~np.isnan(targets[repeated])]
    expected = twin(targets[known], said[known]) if len(known) else NAN
    weights_RN = np.stack([weights, weights]).astype(float)
    found = factory(targets, said)(weights_RN)
    np.testing.assert_allclose(found, [expected, expected], rtol=1e-9, atol=1e-12)


cases = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 0.0, 1.0, NAN]),
        st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.77, 1.0]),
        st.integers(0, 3),
    ),
    min_size=2,
    max_size=12,
)


@pytest.mark.parametrize("name", [*TWINS, *DECIDED])
@settings(max_examples=60, deadline=None)
@given(cases=cases)
def test_a_weight_is_a_repetition(name, cases):
    targets, said, weights = (np.array(column) for column in zip(*cases, strict=True))
    if name in DECIDED:
        said = (said > 0.4).astype(float)
    check(*(TWINS | DECIDED)[name], targets, said, weights)


def slow_auprc(targets, scores):
    """Precision at each score, weighted by the recall it adds."""
    positive, area, recall = sum(targets), 0.0, 0.0
    for cut in sorted(set(scores), reverse=True):
        found = [t for t, s in zip(targets, scores, strict=True) if s >= cut]
        area += (sum(found) / positive - recall) * sum(found) / len(found)
        recall = sum(found) / positive
    return area


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_equals_its_slow_twin_with_ties(seed):
    rng = np.random.default_rng(seed)
    targets, scores = rng.integers(0, 2, 30) * 1.0, rng.integers(0, 8, 30) / 7
    found = weighted.auprc(targets, scores)(np.ones((1, 30)))[0]
    assert found == pytest.approx(slow_auprc(targets, scores))


def test_errors_of_numbers_equal_their_slow_twins():
    targets, predicted = RNG.normal(50, 10, 20), RNG.normal(52, 12, 20)
    pairs, mean = list(zip(targets, predicted, strict=True)), sum(targets) / 20
    squares = sum((p - t) ** 2 for t, p in pairs)
    twins = {
        weighted.root_mean_square: (squares / 20) ** 0.5,
        weighted.r2: 1 - squares / sum((t - mean) ** 2 for t in targets),
        weighted.bias: sum(p - t for t, p in pairs) / 20,
    }
    for factory, twin in twins.items():
        assert factory(targets, predicted)(np.ones((1, 20)))[0] == pytest.approx(twin)


def test_recall_over_classes_is_balanced_accuracy_of_several():
    targets, chosen = RNG.integers(3, size=40) * 1.0, RNG.integers(3, size=40) * 1.0
    found = weighted.recall_over_classes(targets, chosen)(np.ones((1, 40)))[0]
    assert found == pytest.approx(balanced_accuracy_score(targets, chosen))


def test_a_mean_leaves_out_what_is_undefined():
    one, other = (lambda _, v=v: np.array([v, NAN]) for v in (0.5, NAN))
    np.testing.assert_array_equal(weighted.mean_of([one, other])(np.ones((2, 1))), [0.5, NAN])


def trial(patients=11, per=2):
    keys = [f"p{n % patients}" for n in range(patients * per)]
    targets = (RNG.random(len(keys)) < 0.4).astype(float)
    scores = [targets * gain + RNG.normal(size=len(keys)) for gain in (1.5, 0.3)]
    return keys, targets, scores


def test_the_interval_is_the_slow_one():
    keys, targets, (first, _) = trial()
    how = Resampling(resamples=300, seed=3)
    slow = bootstrap_statistic(auroc, (targets, first), keys, how=how, bounds=(0, 1))
    quick = Draws(keys, how).estimate(weighted.auroc(targets, first), (0, 1))
    assert (quick.low, quick.high) == pytest.approx((slow.low, slow.high))
    assert quick.value == pytest.approx(slow.value)
    assert (quick.patients, quick.undefined_draws) == (slow.patients, slow.undefined_draws)


@pytest.mark.parametrize(("patients", "exact"), [(6, True), (14, False)])
def test_the_comparison_is_the_slow_one(patients, exact):
    keys, targets, scores = trial(patients)
    how = Resampling(resamples=200, permutations=1000, seed=1)
    slow = compare_statistics(auroc, targets, scores, keys, how=how, bounds=(-1, 1))
    singles = [weighted.auroc(targets, said) for said in scores]
    pooled = weighted.pooled(weighted.auroc, targets, scores)
    quick = Draws(keys, how).compare(*singles, pooled, (-1, 1))
    assert quick.is_exact == slow.is_exact == exact
    assert (quick.difference, quick.low, quick.high) == pytest.approx(
        (slow.difference, slow.low, slow.high)
    )
    chance = 0 if exact else 4 * np.sqrt(slow.p_value * (1 - slow.p_value) / 1000)
    assert quick.p_value == pytest.approx(slow.p_value, abs=chance + 1e-9)


def test_many_cases_are_weighed_a_few_draws_at_a_time(monkeypatch):
    keys, targets, (first, _) = trial()
    how = Resampling(resamples=200)
    at_once = Draws(keys, how).estimate(weighted.auroc(targets, first))
    monkeypatch.setattr("medssl.evaluation.draws._AT_ONCE", 50)
    assert Draws(keys, how).estimate(weighted.auroc(targets, first)) == at_once


def test_one_patient_has_a_value_and_no_interval():
    found = Draws(["p"] * 4, Resampling()).estimate(
        weighted.auroc(np.array([0.0, 1, 0, 1]), np.array([0.1, 0.9, 0.2, 0.8]))
    )
    assert found.value == 1
    assert np.isnan(found.low)


def test_a_statistic_that_hangs_on_one_patient_has_no_interval():
    statistic = weighted.auroc(np.array([1.0, 0, 1]), np.array([0.9, 0.2, 0.4]))
    found = Draws(["a", "a", "b"], Resampling()).estimate(statistic, (0, 1))
    assert found.value == 1
    assert np.isnan([found.low, found.high]).all()


def test_nobody_has_nothing():
    none = np.array([])
    assert np.isnan(Draws([], Resampling()).estimate(weighted.auroc(none, none)).value)
