import re

import numpy as np
import pandas as pd
import pytest

from medssl.evaluation.intervals import Resampling
from medssl.evaluation.summary import Metric, corrected, summarise_means, verdict

DICE = Metric("dice", "mean Dice", (0.0, 1.0))
HOW = Resampling(resamples=200, permutations=200)


def made_up(differences, one=0.8):
    """Return a table in which pretraining changes each patient's answer one by a difference."""
    rows = []
    for number, change in enumerate(differences):
        key = {"case_key": f"case-{number:03d}", "patient_key": f"patient-{number:03d}"}
        for model, dice in (("pretrained", one + change), ("scratch", one)):
            rows.append(key | {"model": model, "answer": "one", "dice": dice})
            rows.append(key | {"model": model, "answer": "two", "dice": np.nan})
    return pd.DataFrame(rows)


def summarised(table):
    return summarise_means(table, [DICE], HOW)


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        (
            [0.05, 0.06, 0.04, 0.05, 0.07],
            r"^Pretraining raised mean Dice by 0\.054 over 5 patients",
        ),
        ([-0.05, -0.06, -0.04, -0.07], r"^Pretraining lowered mean Dice by 0\.055 over 4 patients"),
        ([0.1, -0.1, 0.05, -0.04], r"^No difference is shown: .*the interval includes 0"),
        ([0.2], r"^Too few patients \(1\)"),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(differences, said):
    assert re.search(said, verdict(summarised(made_up(differences)), DICE, 0.95))


def test_where_lower_is_better_the_verdict_says_so():
    error = Metric("dice", "mean error", larger_is_better=False)
    said = verdict(summarised(made_up([-0.05, -0.06, -0.04, -0.07])), error, 0.95)
    assert said.startswith("Pretraining lowered mean error")
    assert "lower is better" in said


def test_the_difference_is_paired_by_patient():
    differences = [0.05, 0.06, 0.04, 0.05, 0.07]
    table = made_up(differences)
    spread = np.linspace(-0.5, 0.1, 5)  # far larger than the difference itself
    table["dice"] += spread[table["case_key"].str[-3:].astype(int)]
    found = summarised(table)["differences"]["dice"]
    assert found["one"]["difference"] == pytest.approx(np.mean(differences))
    assert found["one"]["low"] > 0.03
    assert found["mean"]["difference"] == pytest.approx(np.mean(differences))
    assert found["one"]["p_value"] == pytest.approx(2 / 2**5)


def test_an_answer_that_no_case_has_is_not_measured():
    scores = summarised(made_up([0.1, 0.2, 0.3]))["scores"]["dice"]["scratch"]
    assert np.isnan(scores["two"]["value"])
    assert scores["two"]["patients"] == 0
    assert scores["mean"]["patients"] == 3


def test_one_model_is_not_compared():
    table = made_up([0.1, 0.2])
    metrics = summarised(table[table["model"] == "scratch"])
    assert metrics["differences"] == {}
    assert verdict(metrics, DICE, 0.95).startswith("There is one model")


def test_the_headline_stands_alone_and_the_others_are_corrected():
    differences = {
        "dice": {"mean": {"p_value": 0.01}, "one": {"p_value": 0.02}},
        "hd95_mm": {"mean": {"p_value": 0.03}, "two": {"p_value": float("nan")}},
    }
    corrected(differences, "dice")
    assert "p_holm" not in differences["dice"]["mean"]
    assert differences["dice"]["one"]["p_holm"] == pytest.approx(0.04)
    assert differences["hd95_mm"]["mean"]["p_holm"] == pytest.approx(0.04)
    assert "p_holm" not in differences["hd95_mm"]["two"]
