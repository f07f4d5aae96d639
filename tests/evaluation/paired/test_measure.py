import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from medssl.evaluation.intervals import Resampling
from medssl.evaluation.paired.measure import Measuring, Scored, spread

HOW = Resampling(resamples=200)
RNG = np.random.default_rng(0)
TARGETS = np.array([1, 0] * 15 + [np.nan] * 4, float)
SCORES = RNG.random(34) + 0.4 * np.nan_to_num(TARGETS)
PATIENTS = [f"p{n // 2}" for n in range(34)]


def scored(targets=TARGETS, scores=SCORES):
    return Scored(target_N=targets, score_N=scores)


def test_a_finding_is_measured_on_studies_of_which_it_is_known():
    row = Measuring(PATIENTS, HOW, 5).finding(scored(), None)
    assert (row["studies"], row["positive"], row["prevalence"]) == (30, 15, 0.5)
    assert row["auroc"]["value"] == pytest.approx(roc_auc_score(TARGETS[:30], SCORES[:30]))
    expected = average_precision_score(TARGETS[:30], SCORES[:30])
    assert row["auprc"]["value"] == pytest.approx(expected)
    assert row["auroc"]["low"] < row["auroc"]["value"] < row["auroc"]["high"]
    assert row["operating"] is None


def test_a_rare_finding_is_not_measured():
    measuring = Measuring(PATIENTS, HOW, 16)
    assert measuring.finding(scored(), scored())["auroc"] is None
    assert measuring.mean_auroc([scored()]) is None


def test_the_threshold_is_chosen_on_the_validation_alone():
    val = scored(np.array([0, 0, 0, 1, 1, 1], float), np.array([0.1, 0.2, 0.3, 0.6, 0.8, 0.9]))
    row = Measuring(PATIENTS, HOW, 3).finding(scored(), val)["operating"]
    assert row["threshold"] == 0.6
    called = SCORES[:30] >= 0.6
    assert row["sensitivity"]["value"] == pytest.approx(called[TARGETS[:30] == 1].mean())
    assert row["specificity"]["value"] == pytest.approx((~called)[TARGETS[:30] == 0].mean())


def test_the_mean_is_over_findings_that_can_be_measured():
    measuring = Measuring(PATIENTS, HOW, 5)
    rare = scored(np.where(np.arange(34) == 0, 1.0, 0.0))
    alone = measuring.mean_auroc([scored()])
    assert measuring.mean_auroc([scored(), rare])["value"] == alone["value"]


def test_a_question_is_measured_answer_by_answer():
    truth = np.array([0, 1, 2, 0, 1, 2, -1, 0])
    score = np.random.default_rng(1).dirichlet([1, 1, 1], 8)
    row = Measuring(PATIENTS[:8], HOW, 1).question(truth, score, ["CT", "MR", "PT"])
    known = truth >= 0
    right = score[known].argmax(1) == truth[known]
    assert row["studies"] == 7
    assert row["accuracy"]["value"] == pytest.approx(right.mean())
    recalls = [right[truth[known] == c].mean() for c in range(3)]
    assert row["mean_recall"]["value"] == pytest.approx(np.mean(recalls))
    areas = [roc_auc_score(truth[known] == c, score[known, c]) for c in range(3)]
    assert row["auroc"]["value"] == pytest.approx(np.mean(areas))
    assert row["answers"]["MR"]["positive"] == 2


def test_a_question_with_one_answer_alone_tells_nothing():
    row = Measuring(PATIENTS[:3], HOW, 1).question(np.zeros(3, int), np.eye(3), ["a", "b", "c"])
    assert row["accuracy"] is row["auroc"] is None


def test_the_spread_is_from_the_worst_to_the_best_way_to_say_it():
    assert spread({"a": {"value": 0.6}, "b": None, "c": {"value": 0.9}}) == pytest.approx(0.3)
    assert spread({"a": {"value": 0.6}, "b": None}) is None
