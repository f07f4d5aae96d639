import re

import numpy as np
import pandas as pd
import pytest

from medssl.errors import InputError
from medssl.evaluation.evaluate import EvaluateConfig, evaluate, summarise, verdict
from medssl.evaluation.report import write_report
from medssl.inference.predictor import Predictor
from medssl.labelled.cases import LabelledSet, read_pair
from medssl.labelled.read import read_labelled
from medssl.runs.folder import read_json
from tests.finetuned import config as finetune_config
from tests.finetuned import finetuned, phantom, write_dataset

LABELS = ("background", "one", "two")


def config(out, **changes):
    options = {
        "finetune": finetuned(),
        "out": out,
        "tracking": {"enabled": False},
        "resamples": 200,
    }
    return EvaluateConfig(**options | changes)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluate") / "out"
    return evaluate(config(out)), out


def made_up(differences, one=0.8):
    """Return a table in which pretraining changes each patient's class one by a difference."""
    rows = []
    for number, change in enumerate(differences):
        key = {"case_key": f"case-{number:03d}", "patient_key": f"patient-{number:03d}"}
        counts = {"reference_voxels": 5, "predicted_voxels": 5}
        for model, dice in (("pretrained", one + change), ("scratch", one)):
            rows.append(key | counts | {"model": model, "class": "one", "dice": dice})
            rows.append(key | counts | {"model": model, "class": "two", "dice": np.nan})
    return pd.DataFrame(rows)


def test_it_scores_held_aside_cases_on_their_own_grid(evaluated):
    result, out = evaluated
    table = pd.read_csv(out / "cases.csv")
    held_aside = read_json(finetuned() / "splits.json")["cases"]["test"]
    assert sorted(table["case_key"].unique()) == held_aside
    labelled = read_labelled(finetuned().parent / "balls" / "dataset.json")
    volume, reference = read_pair(labelled.case(held_aside[0]), labelled.modality)
    mask = Predictor.load(finetuned() / "scratch").predict(volume)
    twin = 2 * np.sum((mask == 1) & (reference == 1)) / (np.sum(mask == 1) + np.sum(reference == 1))
    row = table[(table["case_key"] == held_aside[0]) & (table["model"] == "scratch")].iloc[0]
    assert row["dice"] == pytest.approx(twin)
    assert row["predicted_voxels"] == np.sum(mask == 1)
    assert result.summary["pretrained_dice"] > 0.8


def test_it_leaves_a_page_that_needs_nothing_else(evaluated):
    result, out = evaluated
    page = (out / "report.html").read_text()
    assert result.summary["verdict"] in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page
    for name in ("metrics.json", "cases.csv", "overlays.png"):
        assert (out / name).is_file()
    metrics = read_json(out / "metrics.json")
    assert set(metrics["dice"]) == {"pretrained", "scratch"}
    assert set(metrics["dice"]["scratch"]) == {"shell", "kernel", "mean"}
    assert "no Dice there" in metrics["empty_references"]


def test_the_same_again_is_handed_back(evaluated):
    assert evaluate(config(evaluated[1])).skipped


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
def test_the_verdict_says_no_more_than_the_interval(tmp_path, differences, said):
    metrics = summarise(made_up(differences), LABELS, config(tmp_path))
    assert re.search(said, metrics["verdict"])


def test_the_difference_is_paired_by_patient(tmp_path):
    differences = [0.05, 0.06, 0.04, 0.05, 0.07]
    table = made_up(differences)
    spread = np.linspace(-0.5, 0.1, 5)  # far larger than the difference itself
    table["dice"] += spread[table["case_key"].str[-3:].astype(int)]
    found = summarise(table, LABELS, config(tmp_path))["difference"]
    assert found["one"]["mean"] == pytest.approx(np.mean(differences))
    assert found["one"]["low"] > 0.03
    assert found["mean"]["mean"] == pytest.approx(np.mean(differences))


def test_a_class_no_case_holds_is_not_measured(tmp_path):
    metrics = summarise(made_up([0.1, 0.2, 0.3]), LABELS, config(tmp_path))
    assert np.isnan(metrics["dice"]["scratch"]["two"]["mean"])
    assert metrics["dice"]["scratch"]["two"]["patients"] == 0
    assert metrics["dice"]["scratch"]["mean"]["patients"] == 3


def test_one_model_is_not_compared(tmp_path):
    table = made_up([0.1, 0.2])
    metrics = summarise(table[table["model"] == "scratch"], LABELS, config(tmp_path))
    assert metrics["difference"] is None
    assert verdict(None, 0.95) == metrics["verdict"]


def test_names_in_the_page_are_escaped(tmp_path, evaluated):
    (tmp_path / "overlays.png").write_bytes((evaluated[1] / "overlays.png").read_bytes())
    evil = LabelledSet(
        name="<script>alert(1)</script>",
        modality="MR",
        licence="<b>",
        labels=LABELS,
        cases=(),
        digest="",
    )
    table = made_up([0.1, 0.2])
    write_report(tmp_path, evil, summarise(table, LABELS, config(tmp_path)), table)
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_what_is_not_a_finished_finetuning_is_explained(tmp_path):
    with pytest.raises(InputError, match="not the folder of a finetuning"):
        evaluate(config(tmp_path / "out", finetune=tmp_path))


def test_a_changed_data_set_is_refused(tmp_path):
    from medssl.io.nifti import write_nifti
    from medssl.training.finetune import finetune
    from tests.finetuned import affine

    dataset = write_dataset(tmp_path / "balls", cases=4)
    quick = {
        "schedule": {"steps": 1, "warmup_steps": 0},
        "encoder": {"name": "segresnet", "width": 4},
    }
    finetune(finetune_config(dataset, tmp_path / "run", **quick))
    write_nifti(phantom(50)[0], affine(), tmp_path / "balls" / "imagesTr" / "ball_0.nii.gz")
    with pytest.raises(InputError, match="is not the one this finetuning used"):
        evaluate(config(tmp_path / "out", finetune=tmp_path / "run"))


def test_an_unfinished_finetuning_is_refused(tmp_path):
    for name in ("config.yaml", "manifest.json"):
        (tmp_path / name).write_text((finetuned() / name).read_text())
    text = (tmp_path / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(text.replace('"finished"', '"failed"'))
    with pytest.raises(InputError, match="is not finished"):
        evaluate(config(tmp_path / "out", finetune=tmp_path))
