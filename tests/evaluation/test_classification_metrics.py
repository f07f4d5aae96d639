from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from medssl.errors import InputError
from medssl.evaluation.classification_metrics import (
    Thresholds,
    auprc,
    auroc,
    binary_metrics,
    choose_thresholds,
    multiclass_metrics,
    multilabel_metrics,
    sensitivity_at,
    specificity_at,
)

TARGETS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.7, 0.35, 0.6, 0.8, 0.9])


def slow_auroc(targets, scores):
    pairs = [(p, n) for p, a in zip(scores, targets, strict=True) if a == 1
             for n, b in zip(scores, targets, strict=True) if b == 0]  # fmt: skip
    return sum((p > n) + 0.5 * (p == n) for p, n in pairs) / len(pairs)


def slow_auprc(targets, scores):
    """Precision at each score, weighted by the recall it adds."""
    positive, area, recall = sum(targets), 0.0, 0.0
    for cut in sorted(set(scores), reverse=True):
        found = [t for t, s in zip(targets, scores, strict=True) if s >= cut]
        area += (sum(found) / positive - recall) * sum(found) / len(found)
        recall = sum(found) / positive
    return area


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
def test_areas_equal_their_slow_twins_with_ties(seed):
    rng = np.random.default_rng(seed)
    targets, scores = rng.integers(0, 2, 30), rng.integers(0, 8, 30) / 7
    assert auroc(targets, scores) == pytest.approx(slow_auroc(targets, scores))
    assert auroc(targets, scores) == pytest.approx(roc_auc_score(targets, scores))
    assert auprc(targets, scores) == pytest.approx(slow_auprc(targets, scores))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("wanted", [0.7, 0.9, 1.0])
def test_thresholds_equal_their_slow_twin(seed, wanted):
    rng = np.random.default_rng(seed)
    targets, scores = np.r_[0, 1, rng.integers(0, 2, 28)], rng.integers(0, 12, 30) / 11
    found = choose_thresholds(targets, scores, specificity=wanted, sensitivity=wanted)
    specific, sensitive, best, f1 = slow_thresholds(targets, scores, wanted, wanted)
    assert (found.at_specificity, found.at_sensitivity) == (specific, sensitive)
    assert f1[found.best_f1] == pytest.approx(best)
    assert specificity_at(targets, scores, found.at_specificity) >= wanted - 1e-9
    assert sensitivity_at(targets, scores, found.at_sensitivity) >= wanted - 1e-9


def test_operating_points_by_hand():
    found = choose_thresholds(TARGETS, SCORES, specificity=0.8, sensitivity=0.75)
    # 0.35 would call 0.4 and 0.7: specificity 3 of 5; 0.6 calls 0.7 alone: 4 of 5
    # 0.35 finds all 4 positive cases and calls 2 others: F1 8 / 10, against 6 / 8 at 0.6
    assert found == Thresholds(at_specificity=0.6, at_sensitivity=0.6, best_f1=0.35)
    metrics = binary_metrics(TARGETS, SCORES, found)
    assert metrics["sensitivity_at_specificity"] == 3 / 4
    assert metrics["specificity_at_sensitivity"] == 4 / 5
    assert metrics["f1"] == pytest.approx(8 / 10)
    assert metrics["accuracy"] == pytest.approx(7 / 9)
    assert metrics["balanced_accuracy"] == pytest.approx((4 / 4 + 3 / 5) / 2)


def test_errors_of_probability_equal_their_slow_twins():
    found = binary_metrics(TARGETS, SCORES)
    pairs = list(zip(TARGETS, SCORES, strict=True))
    assert found["brier"] == pytest.approx(sum((s - t) ** 2 for t, s in pairs) / 9)
    assert found["log_loss"] == pytest.approx(-sum(log(s if t else 1 - s) for t, s in pairs) / 9)
    assert "f1" not in found


def test_thresholds_are_not_moved_by_the_cases_they_are_applied_to():
    thresholds = choose_thresholds(TARGETS, SCORES)
    shifted = binary_metrics(TARGETS, SCORES / 10, thresholds)
    assert shifted["sensitivity_at_specificity"] == 0
    assert shifted["specificity_at_sensitivity"] == 1
    assert shifted["f1"] == 0
    assert shifted["auroc"] == auroc(TARGETS, SCORES)


def test_one_class_alone_has_no_areas():
    thresholds = choose_thresholds(TARGETS, SCORES)
    negative = binary_metrics(np.zeros(3), SCORES[:3], thresholds)
    for name in ("auroc", "auprc", "f1", "sensitivity_at_specificity", "balanced_accuracy"):
        assert np.isnan(negative[name]), name
    assert negative["accuracy"] == 1
    assert np.isfinite(negative["log_loss"])
    nothing = binary_metrics(np.full(2, np.nan), SCORES[:2], thresholds)
    assert nothing["cases"] == 0
    assert np.isnan([nothing[n] for n in ("auroc", "brier", "log_loss", "accuracy")]).all()
    with pytest.raises(InputError, match="0 positive and 3 negative"):
        choose_thresholds(np.zeros(3), SCORES[:3])


def test_findings_nobody_judged_do_not_count():
    targets = np.stack([TARGETS, TARGETS[::-1]], axis=1).astype(float)
    probabilities = np.stack([SCORES, SCORES], axis=1)
    targets[[1, 6], 0] = np.nan
    kept = ~np.isnan(targets[:, 0])
    found = multilabel_metrics(targets, probabilities, ["mass", "cyst"])
    assert found["mass"] == binary_metrics(TARGETS[kept], SCORES[kept])
    assert (found["mass"]["cases"], found["cyst"]["cases"]) == (7, 9)
    areas = [found[name]["auroc"] for name in ("mass", "cyst")]
    assert found["macro"]["auroc"] == pytest.approx(np.mean(areas))
    assert "cases" not in found["macro"]


def test_the_macro_mean_is_over_findings_that_have_a_value():
    targets = np.stack([TARGETS, np.zeros(9)], axis=1)
    found = multilabel_metrics(targets, np.stack([SCORES, SCORES], axis=1), ["a", "b"])
    assert found["macro"]["auroc"] == found["a"]["auroc"]
    none = multilabel_metrics(np.zeros((3, 1)), np.full((3, 1), 0.5), ["a"])
    assert np.isnan(none["macro"]["auroc"])


def test_several_classes_equal_their_definitions():
    rng = np.random.default_rng(0)
    targets, names = rng.integers(0, 3, 40), ["a", "b", "c"]
    logits = rng.normal(size=(40, 3)) + 1.5 * np.eye(3)[targets]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    thresholds = {n: choose_thresholds(targets == c, probabilities[:, c])
                  for c, n in enumerate(names)}  # fmt: skip
    found = multiclass_metrics(targets, probabilities, names, thresholds)
    assert found["b"] == binary_metrics(targets == 1, probabilities[:, 1], thresholds["b"])
    macro = roc_auc_score(targets, probabilities, multi_class="ovr", average="macro")
    assert found["macro"]["auroc"] == pytest.approx(macro)
    chosen = probabilities.argmax(axis=1)
    overall = found["overall"]
    assert overall["accuracy"] == pytest.approx(np.mean(chosen == targets))
    assert overall["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(targets, chosen))
    brier = sum((probabilities[n, c] - (targets[n] == c)) ** 2 for n in range(40) for c in range(3))
    assert overall["brier"] == pytest.approx(brier / 40)
    nll = -sum(log(probabilities[n, targets[n]]) for n in range(40)) / 40
    assert overall["log_loss"] == pytest.approx(nll)
    f1 = [2 * np.sum((chosen == c) & (targets == c)) / (np.sum(chosen == c) + np.sum(targets == c))
          for c in range(3)]  # fmt: skip
    assert overall["macro_f1"] == pytest.approx(np.mean(f1))


def test_a_class_that_does_not_occur_has_no_area_and_leaves_the_rest_alone():
    targets = np.array([0, 1, 0, 1])
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.1, 0.4], [0.5, 0.4, 0.1]])
    found = multiclass_metrics(targets, probabilities, ["a", "b", "c"])
    assert np.isnan(found["c"]["auroc"])
    assert found["overall"]["accuracy"] == 0.75
    assert found["overall"]["balanced_accuracy"] == 0.75


cases = st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=2, max_size=20)


@given(cases)
def test_an_area_only_asks_for_the_order(pairs):
    targets, scores = (np.array(column) for column in zip(*pairs, strict=True))
    area = auroc(targets, scores)
    assert area == pytest.approx(auroc(targets, np.exp(scores / 3)), nan_ok=True)
    assert area == pytest.approx(1 - auroc(targets, -scores), nan_ok=True)
    assert area == pytest.approx(auroc(~targets, -scores), nan_ok=True)
