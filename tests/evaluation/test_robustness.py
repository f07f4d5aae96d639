import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medssl.evaluation.corruptions.rotation import Rotation
from medssl.evaluation.evaluate import EvaluateConfig, evaluate
from medssl.evaluation.exam import Exam
from medssl.evaluation.kinds.segmentation import DICE
from medssl.evaluation.robustness import RobustnessConfig, save_robustness
from medssl.inference.predictor import Predictor
from medssl.labelled.cases import read_pair
from medssl.labelled.read import read_labelled
from medssl.runs.folder import read_json
from tests.finetuned import finetuned

ASKED = [
    {"name": "noise", "severities": [0.3]},
    {"name": "rotation", "severities_degrees": [30]},
    {"name": "rotation", "around": "left_right", "severities_degrees": [30]},
]


def robust(out, **changes):
    options = {
        "finetune": finetuned(),
        "out": out,
        "tracking": {"enabled": False},
        "resamples": 100,
        "permutations": 100,
        "robustness": {"corruptions": ASKED, "most_cases": 2},
    }
    evaluate(EvaluateConfig(**options | changes))
    return read_json(out / "metrics.json")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    out = tmp_path_factory.mktemp("robust") / "out"
    return robust(out), out


def test_every_severity_of_every_model_is_measured_beside_the_scans_as_they_are(evaluated):
    rows = pd.DataFrame(evaluated[0]["robustness"])
    assert len(rows) == 3 * 2 * 2
    assert set(rows["model"]) == {"pretrained", "scratch"}
    assert rows.groupby("number")["severity"].unique().map(set).tolist() == [
        {0.0, 0.3}, {0.0, 30.0}, {0.0, 30.0},
    ]  # fmt: skip
    assert (rows["patients"] == 2).all()
    assert (rows["low"] <= rows["value"]).all()
    clean = rows[rows["severity"] == 0].groupby("model")["value"]
    assert (clean.nunique() == 1).all()


def test_the_numbers_are_those_of_a_scan_turned_by_hand(evaluated):
    metrics, out = evaluated
    table = pd.read_csv(out / "cases.csv")
    keys = list(dict.fromkeys(table["case_key"]))
    shown = [keys[0], keys[len(keys) // 2]]
    labelled = read_labelled(finetuned().parent / "balls" / "dataset.json")
    predictor, by_case = Predictor.load(finetuned() / "scratch"), []
    for key in shown:
        volume, label = read_pair(labelled.case(key), labelled.modality)
        seen = Rotation.Config().build().apply(Exam(volume, label), 30.0, np.random.default_rng())
        mask = predictor.predict(seen.volume)
        dice = [
            2 * np.sum((mask == c) & (seen.label_IJK == c))
            / (np.sum(mask == c) + np.sum(seen.label_IJK == c))
            for c in (1, 2)
        ]  # fmt: skip
        by_case.append(np.mean(dice))
    row = next(
        row for row in metrics["robustness"]
        if (row["number"], row["severity"], row["model"]) == (1, 30.0, "scratch")
    )  # fmt: skip
    assert row["value"] == pytest.approx(np.mean(by_case))
    clean = table[(table["model"] == "scratch") & table["case_key"].isin(shown)]
    zero = next(
        row for row in metrics["robustness"]
        if (row["number"], row["severity"], row["model"]) == (1, 0.0, "scratch")
    )  # fmt: skip
    assert zero["value"] == pytest.approx(clean.groupby("case_key")["dice"].mean().mean())


def test_the_same_seed_gives_the_same_and_another_one_other_noise(evaluated, tmp_path):
    asked = {"corruptions": ASKED[:1], "most_cases": 2}
    again = robust(tmp_path / "again", robustness=asked)["robustness"]
    assert again == [row for row in evaluated[0]["robustness"] if row["number"] == 0]
    other = robust(tmp_path / "other", robustness=asked, seed=1)["robustness"]
    assert [row["value"] for row in other] != [row["value"] for row in again]


def test_the_page_shows_the_figure_and_the_numbers(evaluated):
    page = (evaluated[1] / "report.html").read_text()
    assert "Scans made worse" in page
    assert "rotation, left-right axis" in page
    with Image.open(evaluated[1] / "robustness.png") as picture:
        assert picture.width > 300


def test_it_is_left_out_unless_it_is_asked_for():
    assert EvaluateConfig(finetune="a", out="b").robustness is None
    assert len(RobustnessConfig().corruptions) == 7


def test_a_severity_without_a_number_leaves_a_gap(tmp_path):
    rows = [
        {"number": 0, "title": "noise", "unit": "HU", "severity": severity, "model": "scratch",
         "value": value, "low": value, "high": value}
        for severity, value in ((0, 0.9), (1, float("nan")), (2, 0.5))
    ]  # fmt: skip
    save_robustness(tmp_path / "figure.png", rows, DICE)
    assert (tmp_path / "figure.png").stat().st_size > 1000
