import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import recall_score, roc_auc_score

from medssl.errors import InputError
from medssl.evaluation import weighted
from medssl.evaluation.classification_metrics import Thresholds, auroc, choose_thresholds

TARGETS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.7, 0.35, 0.6, 0.8, 0.9])


def slow_auroc(targets, scores):
    pairs = [(p, n) for p, a in zip(scores, targets, strict=True) if a == 1
             for n, b in zip(scores, targets, strict=True) if b == 0]  # fmt: skip
    return sum((p > n) + 0.5 * (p == n) for p, n in pairs) / len(pairs)


def slow_thresholds(targets, scores, specificity, sensitivity):
    def counts(cut):
        called = [s >= cut for s in scores]
        tp = sum(c and t == 1 for c, t in zip(called, targets, strict=True))
        fp = sum(c and t == 0 for c, t in zip(called, targets, strict=True))
        return tp, fp

    positive = sum(targets)
    negative = len(targets) - positive
    cuts = sorted(set(scores))
    specific = [
        c for c in [*cuts, float("inf")] if counts(c)[1] <= (1 - specificity) * negative + 1e-9
    ]
    sensitive = [c for c in cuts if counts(c)[0] >= sensitivity * positive - 1e-9]
    f1 = {c: 2 * counts(c)[0] / (sum(counts(c)) + positive) for c in cuts}
    return min(specific), max(sensitive), max(f1.values()), f1


@pytest.mark.parametrize("seed", range(4))
def test_the_area_equals_its_slow_twin_with_ties(seed):
    rng = np.random.default_rng(seed)
    targets, scores = rng.integers(0, 2, 30), rng.integers(0, 8, 30) / 7
    assert auroc(targets, scores) == pytest.approx(slow_auroc(targets, scores))
    assert auroc(targets, scores) == pytest.approx(roc_auc_score(targets, scores))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("wanted", [0.7, 0.9, 1.0])
def test_thresholds_equal_their_slow_twin(seed, wanted):
    rng = np.random.default_rng(seed)
    targets, scores = np.r_[0, 1, rng.integers(0, 2, 28)], rng.integers(0, 12, 30) / 11
    found = choose_thresholds(targets, scores, specificity=wanted, sensitivity=wanted)
    specific, sensitive, best, f1 = slow_thresholds(targets, scores, wanted, wanted)
    assert (found.at_specificity, found.at_sensitivity) == (specific, sensitive)
    assert f1[found.best_f1] == pytest.approx(best)
    spared = recall_score(targets, scores >= found.at_specificity, pos_label=0)
    assert spared >= wanted - 1e-9
    assert recall_score(targets, scores >= found.at_sensitivity) >= wanted - 1e-9


def decided(factory, cut, scores=SCORES, targets=TARGETS):
    """Return a statistic of decisions at a threshold, every case once."""
    targets = np.asarray(targets, float)
    return factory(targets, (scores >= cut).astype(float))(np.ones((1, len(targets))))[0]


def test_operating_points_by_hand():
    found = choose_thresholds(TARGETS, SCORES, specificity=0.8, sensitivity=0.75)
    # 0.35 would call 0.4 and 0.7: specificity 3 of 5; 0.6 calls 0.7 alone: 4 of 5
    # 0.35 finds all 4 positive cases and calls 2 others: F1 8 / 10, against 6 / 8 at 0.6
    assert found == Thresholds(at_specificity=0.6, at_sensitivity=0.6, best_f1=0.35)
    assert decided(weighted.sensitivity, found.at_specificity) == 3 / 4
    assert decided(weighted.specificity, found.at_sensitivity) == 4 / 5
    assert decided(weighted.f1, found.best_f1) == pytest.approx(8 / 10)
    assert decided(weighted.accuracy, found.best_f1) == pytest.approx(7 / 9)
    balanced = decided(weighted.balanced_accuracy, found.best_f1)
    assert balanced == pytest.approx((4 / 4 + 3 / 5) / 2)


def test_one_class_alone_has_no_area_and_no_thresholds():
    assert np.isnan(auroc(np.zeros(3), SCORES[:3]))
    assert np.isnan(auroc(np.ones(3), SCORES[:3]))
    assert np.isnan(auroc(np.full(2, np.nan), SCORES[:2]))
    cut = choose_thresholds(TARGETS, SCORES).best_f1
    negative = {"scores": SCORES[:3], "targets": np.zeros(3)}
    for factory in (weighted.f1, weighted.sensitivity, weighted.balanced_accuracy):
        assert np.isnan(decided(factory, cut, **negative))
    assert decided(weighted.accuracy, cut, **negative) == 1
    with pytest.raises(InputError, match="0 positive and 3 negative"):
        choose_thresholds(np.zeros(3), SCORES[:3])


def test_targets_nobody_knows_do_not_count():
    targets = TARGETS.astype(float)
    targets[[1, 6]] = np.nan
    kept = ~np.isnan(targets)
    assert auroc(targets, SCORES) == auroc(TARGETS[kept], SCORES[kept])
    assert choose_thresholds(targets, SCORES) == choose_thresholds(TARGETS[kept], SCORES[kept])


cases = st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=2, max_size=20)


@given(cases)
def test_an_area_only_asks_for_the_order(pairs):
    targets, scores = (np.array(column) for column in zip(*pairs, strict=True))
    area = auroc(targets, scores)
    assert area == pytest.approx(auroc(targets, np.exp(scores / 3)), nan_ok=True)
    assert area == pytest.approx(1 - auroc(targets, -scores), nan_ok=True)
    assert area == pytest.approx(auroc(~targets, -scores), nan_ok=True)
