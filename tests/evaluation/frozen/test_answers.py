import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from medssl.evaluation.frozen.answers import answers, mean_auroc, mean_recall
from medssl.evaluation.frozen.targets import Targets
from medssl.evaluation.intervals import Resampling

HOW = Resampling(resamples=100)
PATIENTS = tuple(f"p{n}" for n in range(30))


def given(classes=3, rows=30, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=rows)
    shares = rng.random((rows, classes)) + 0.5 * np.eye(classes)[labels]
    return labels, np.eye(classes)[labels], shares / shares.sum(axis=1, keepdims=True)


def found(shares, targets, patients=PATIENTS):
    return {name: r.estimate(HOW).mean for name, r in answers(shares, targets, patients)}


def test_scores_of_classes_are_those_of_scikit_learn():
    labels, y, shares = given()
    scores = found(shares, Targets(("a", "b", "c"), y, exclusive=True))
    assert scores["accuracy"] == pytest.approx(accuracy_score(labels, shares.argmax(1)))
    assert scores["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(labels, shares.argmax(1))
    )
    assert scores["auroc"] == pytest.approx(
        roc_auc_score(labels, shares, multi_class="ovr", average="macro")
    )


def test_columns_have_the_mean_area_over_what_is_known():
    y, shares = given()[1:]
    y = y.copy()
    y[:10, 1] = np.nan
    scores = found(shares, Targets(("a", "b", "c"), y, exclusive=False))
    areas = [
        roc_auc_score(y[~np.isnan(y[:, c]), c], shares[~np.isnan(y[:, c]), c]) for c in range(3)
    ]
    assert scores == {"auroc": pytest.approx(np.mean(areas))}


def test_rows_without_an_answer_do_not_count():
    y, shares = given()[1:]
    some = shares.copy()
    some[:5] = np.nan
    targets = Targets(("a", "b", "c"), y, exclusive=True)
    rest = targets.take(np.arange(5, 30))
    assert found(some, targets) == pytest.approx(found(shares[5:], rest, PATIENTS[5:]))


def test_a_class_that_does_not_occur_is_left_out_of_the_mean():
    y = np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 0]])
    shares = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    assert mean_recall(y, shares) == pytest.approx((1 / 2 + 1) / 2)
    assert mean_auroc(y, shares) == pytest.approx((0.5 + 0.5) / 2)


def test_nothing_answered_is_no_score():
    nothing = np.full((2, 2), np.nan)
    assert np.isnan(mean_recall(np.eye(2), nothing))
    assert np.isnan(mean_auroc(np.eye(2), nothing))
