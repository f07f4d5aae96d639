import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medssl.errors import InputError
from medssl.evaluation.evaluate import EvaluateConfig, evaluate
from medssl.evaluation.report import write_report
from medssl.evaluation.subject import read_subject
from medssl.inference.predictor import Predictor
from medssl.labelled.cases import LabelledSet, read_pair
from medssl.labelled.read import read_labelled
from medssl.runs.folder import read_json
from tests.finetuned import config as finetune_config
from tests.finetuned import finetuned, phantom, write_dataset


def config(out, **changes):
    options = {
        "finetune": finetuned(),
        "out": out,
        "tracking": {"enabled": False},
        "resamples": 200,
        "permutations": 200,
    }
    return EvaluateConfig(**options | changes)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluate") / "out"
    return evaluate(config(out)), out


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
    means = table[table["model"] == "scratch"].groupby("case_key")["dice"].mean()
    assert result.summary["scratch_dice"] == pytest.approx(means.mean(), abs=1e-4)
    assert row["predicted_ml"] == pytest.approx(np.sum(mask == 1) / 1000)
    assert result.summary["pretrained_dice"] > 0.8


def test_it_leaves_a_page_that_needs_nothing_else(evaluated):
    result, out = evaluated
    page = (out / "report.html").read_text()
    assert result.summary["verdict"] in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page
    for name in ("metrics.json", "cases.csv", "case-worst.png", "case-best.png"):
        assert (out / name).is_file()
    metrics = read_json(out / "metrics.json")
    assert set(metrics["scores"]["dice"]) == {"pretrained", "scratch"}
    assert set(metrics["scores"]["hd95_mm"]["scratch"]) == {"shell", "kernel", "mean"}
    assert "no Dice there" in metrics["notes"][0]


def test_everything_but_the_headline_is_corrected_for_how_much_was_tried(evaluated):
    differences = read_json(evaluated[1] / "metrics.json")["differences"]
    assert "p_holm" not in differences["dice"]["mean"]
    others = [d for name, by in differences.items() for a, d in by.items()
              if (name, a) != ("dice", "mean")]  # fmt: skip
    assert all(found["p_holm"] >= found["p_value"] for found in others)


def test_the_same_again_is_handed_back(evaluated):
    assert evaluate(config(evaluated[1])).skipped


def test_folds_answer_together_and_mirrored_scans_are_seen(tmp_path, evaluated):
    both = config(tmp_path / "both", finetune=(finetuned(), finetuned()))
    assert evaluate(both).summary["pretrained_dice"] == evaluated[0].summary["pretrained_dice"]
    mirrored = evaluate(config(tmp_path / "mirrored", mirror_axes=(0, 1)))
    assert mirrored.summary["pretrained_dice"] != evaluated[0].summary["pretrained_dice"]
    assert mirrored.summary["pretrained_dice"] > 0.7


def test_finetunings_that_hold_other_cases_aside_are_no_ensemble(monkeypatch):
    from medssl.evaluation import subject

    one = subject._read_one(finetuned(), "test")
    other = replace(one, cases=one.cases[1:])
    found = iter([one, other])
    monkeypatch.setattr(subject, "_read_one", lambda *_: next(found))
    with pytest.raises(InputError, match="holds other cases aside"):
        read_subject([finetuned(), finetuned()], "test")


def test_names_in_the_page_are_escaped(tmp_path, evaluated):
    evil = LabelledSet(
        name="<script>alert(1)</script>",
        modality="MR",
        licence="<b>",
        labels=("background", "one"),
        cases=(),
        digest="",
    )
    metrics = read_json(evaluated[1] / "metrics.json")
    write_report(tmp_path, evil, metrics, [])
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
