"""What is said of scores over seeds and patients."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medssl.errors import InputError
from medssl.evaluation.intervals import Resampling
from medssl.evaluation.kinds.classification import AUROC
from medssl.evaluation.kinds.regression import MAE
from medssl.evaluation.kinds.segmentation import DICE
from medssl.evaluation.study.scores import compare, corrected, headline_of, sentence
from medssl.evaluation.study.two_way import two_way_mean

HOW = Resampling(resamples=200, permutations=300)
STARTS = ("pretrained", "scratch")


def dice_rows(values, patients=None):
    """Return rows of cases.csv from ``values[start][seed][case][structure]``."""
    return pd.DataFrame(
        [
            {
                "seed": seed,
                "case_key": f"case-{case}",
                "patient_key": (patients or {}).get(case, f"patient-{case}"),
                "model": start,
                "answer": f"structure {number}",
                "dice": dice,
            }
            for start, by_seed in values.items()
            for seed, by_case in enumerate(by_seed)
            for case, by_structure in enumerate(by_case)
            for number, dice in enumerate(by_structure)
        ]
    )


def drawn(gain, seeds=3, cases=12, seed=0):
    rng = np.random.default_rng(seed)
    scratch = 0.5 + 0.1 * rng.normal(size=(1, cases, 1)) + 0.02 * rng.normal(size=(seeds, cases, 2))
    return {
        "pretrained": scratch + gain + 0.02 * rng.normal(size=scratch.shape),
        "scratch": scratch,
    }


def test_scores_are_averaged_over_structures_then_cases_then_patients_then_seeds():
    nan = float("nan")
    values = {
        "pretrained": [[[0.8, 0.6], [0.4, nan], [0.9, 0.9]], [[0.6, 0.6], [0.8, nan], [0.5, 0.5]]],
        "scratch": [[[0.2, 0.4], [0.3, nan], [0.9, 0.9]], [[0.3, 0.3], [0.3, nan], [0.5, 0.5]]],
    }
    found = compare(dice_rows(values, {0: "A", 1: "A", 2: "B"}), DICE, "mean", HOW)
    first = ((0.7 + 0.4) / 2 + 0.9) / 2
    second = ((0.6 + 0.8) / 2 + 0.5) / 2
    assert found["pretrained"]["by_seed"] == pytest.approx([first, second])
    assert found["pretrained"]["value"] == pytest.approx((first + second) / 2)
    scratch = [(0.3 + 0.9) / 2, (0.3 + 0.5) / 2]
    assert found["difference"]["by_seed"] == pytest.approx(
        [first - scratch[0], second - scratch[1]]
    )
    assert found["difference"]["patients"] == 2


def test_the_difference_is_paired_and_surer_than_either_start():
    values = drawn(gain=0.05)
    found = compare(dice_rows(values), DICE, "mean", HOW)
    twin = two_way_mean((values["pretrained"] - values["scratch"]).mean(axis=2), HOW)
    difference = found["difference"]
    assert (difference["low"], difference["high"]) == pytest.approx((twin.low, twin.high))
    assert difference["low"] > 0
    assert difference["high"] - difference["low"] < 0.5 * (
        found["scratch"]["high"] - found["scratch"]["low"]
    )
    assert difference["p_value"] < 0.01


def test_one_structure_alone_can_be_asked_for():
    values = drawn(gain=0.05)
    found = compare(dice_rows(values), DICE, "structure 1", HOW)
    assert found["scratch"]["value"] == pytest.approx(values["scratch"][..., 1].mean())


def test_a_patient_without_any_score_does_not_count():
    values = drawn(gain=0.05)
    for start in STARTS:
        values[start][:, 3] = np.nan
    found = compare(dice_rows(values), DICE, "mean", HOW)
    assert found["difference"]["patients"] == 11


def test_the_test_flips_signs_of_patients_whatever_the_seeds():
    values = drawn(gain=0.0, seeds=1)
    many = {start: np.repeat(of_one, 9, axis=0) for start, of_one in values.items()}
    one, nine = (compare(dice_rows(v), DICE, "mean", HOW)["difference"] for v in (values, many))
    assert nine["p_value"] == one["p_value"]


def ranked(seeds=2, cases=16, sharpness=2.0, seed=0):
    """Return rows of a classification in two answers; some patients have two cases."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, (cases, 2)).astype(float)
    rows = []
    for number in range(seeds):
        for start, sharp in zip(STARTS, (sharpness, 0.0), strict=True):
            score = 1 / (1 + np.exp(-sharp * (2 * target - 1) - rng.normal(size=target.shape)))
            rows += [
                {
                    "seed": number,
                    "case_key": f"case-{case:02d}",
                    "patient_key": f"patient-{case // 2 if case < 6 else case:02d}",
                    "model": start,
                    "answer": answer,
                    "target": target[case, column],
                    "probability": score[case, column],
                }
                for case in range(cases)
                for column, answer in enumerate("ab")
            ]
    return pd.DataFrame(rows)


def mean_area(rows, start, seed):
    mine = rows[(rows["model"] == start) & (rows["seed"] == seed)]
    return np.mean(
        [roc_auc_score(of["target"], of["probability"]) for _, of in mine.groupby("answer")]
    )


def test_areas_under_the_curve_are_those_of_scikit_learn_seed_by_seed():
    rows = ranked()
    found = compare(rows, AUROC, "mean", HOW)
    for start in STARTS:
        expected = [mean_area(rows, start, seed) for seed in range(2)]
        assert found[start]["by_seed"] == pytest.approx(expected)
        assert found[start]["value"] == pytest.approx(np.mean(expected))
    assert found["difference"]["p_value"] < 0.01


def test_a_patients_part_in_an_area_is_what_is_lost_without_it():
    rows = ranked()
    patients = sorted(rows["patient_key"].unique())
    parts = np.zeros((2, len(patients)))
    for seed in range(2):
        whole = mean_area(rows, "pretrained", seed) - mean_area(rows, "scratch", seed)
        for n, patient in enumerate(patients):
            others = rows[rows["patient_key"] != patient]
            less = mean_area(others, "pretrained", seed) - mean_area(others, "scratch", seed)
            parts[seed, n] = len(patients) * whole - (len(patients) - 1) * less
        parts[seed] += whole - parts[seed].mean()
    twin = two_way_mean(parts, HOW, (-1.0, 1.0))
    found = compare(rows, AUROC, "mean", HOW)["difference"]
    assert (found["low"], found["high"]) == pytest.approx((twin.low, twin.high))
    assert found["patients"] == len(patients) == 13


def test_an_area_that_hangs_on_one_patient_has_no_interval():
    rows = ranked()
    rows["target"] = (rows["patient_key"] == "patient-08").astype(float)
    found = compare(rows, AUROC, "mean", HOW)
    assert np.isfinite(found["pretrained"]["value"])
    assert np.isnan(found["pretrained"]["low"])


def test_p_values_are_corrected_over_the_shares_of_labels():
    rows = [{"difference": {"p_value": p}} for p in (0.04, 0.01, 0.5)]
    corrected(rows)
    assert [row["difference"]["p_holm"] for row in rows] == pytest.approx([0.08, 0.03, 0.5])


def test_where_no_reference_holds_anything_nothing_is_compared():
    values = {start: np.full((2, 3, 1), np.nan) for start in STARTS}
    with pytest.raises(InputError, match="no patient that is judged has a score"):
        compare(dice_rows(values), DICE, "mean", HOW)


def row(difference, low, high, seeds=(0, 1)):
    found = {"difference": difference, "low": low, "high": high, "patients": 62}
    found["by_seed"] = [difference + 0.01 * (-1) ** n for n in range(len(seeds))]
    return {"fraction": 0.02, "patients": 3, "seeds": list(seeds), "difference": found}


@pytest.mark.parametrize(
    ("found", "metric", "said"),
    [
        (row(0.1, 0.05, 0.15), DICE, "2 seeds: Pretraining raised mean Dice by 0.100 over 62"),
        (row(0.1, -0.1, 0.3), DICE, "2 seeds: No difference is shown"),
        (row(-0.1, -0.2, -0.05), MAE, "lowered mean absolute error by 0.100"),
        (row(-0.1, -0.2, -0.05), MAE, "and lower is better."),
        (row(0.1, 0.05, 0.15, [3]), DICE, "One seed does not tell how another training"),
        (row(0.1, 0.05, 0.15), DICE, "better in 2 of 2 seeds."),
        (row(0.0, -0.1, 0.1), DICE, "better in 1 of 2 seeds. So few widen the interval"),
        (row(-0.1, -0.2, -0.05), MAE, "better in 2 of 2 seeds."),
        (row(0.1, 0.05, 0.15), DICE, "3 labelled patients (2 %)"),
    ],
)
def test_a_sentence_says_no_more_than_the_interval(found, metric, said):
    assert said in sentence(found, metric, 0.95)


def test_another_headline_is_what_the_evaluation_says_of_it():
    about = {"column": "scaled", "title": "scaled error", "bounds": [0.0, None]}
    told = {"shown": [about | {"larger_is_better": False}]}
    metric, answer = headline_of(told | {"headline": {"metric": "scaled", "answer": "mean"}})
    assert (metric.column, metric.bounds, metric.larger_is_better) == ("scaled", (0, np.inf), False)
    assert answer == "mean"
    known = {"headline": {"metric": "dice", "answer": "liver"}}
    assert headline_of(known) == (DICE, "liver")
