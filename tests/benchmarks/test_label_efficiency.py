"""The study of few labels: intervals by their definition, and all of it at the smallest size."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from medssl.config.load import load
from medssl.data.store import CropStore
from medssl.errors import ConfigError
from medssl.labelled.read import read_labelled
from pipelines.benchmarks import label_efficiency as study
from pipelines.benchmarks import label_efficiency_report as report


def slow_interval(values_SP, draws):
    """Draw seeds and patients anew, one draw after the other."""
    rng = np.random.default_rng(0)
    seeds, patients = values_SP.shape
    rows = rng.integers(seeds, size=(draws, seeds))
    columns = rng.integers(patients, size=(draws, patients))
    means = [
        np.mean([[values_SP[s, p] for p in columns[d]] for s in rows[d]]) for d in range(draws)
    ]
    return (values_SP.mean(), *np.percentile(means, [2.5, 97.5]))


def test_intervals_are_those_of_drawing_seeds_and_patients():
    values_SP = np.random.default_rng(1).random((3, 7))
    np.testing.assert_allclose(report.interval(values_SP, 50), slow_interval(values_SP, 50))


def rows_of(dice_by_method):
    return pd.DataFrame(
        [
            {"budget": "b", "labels": 2, "method": method, "seed": seed, "patient_key": f"p{p}",
             "answer": name, "dice": dice + 0.01 * p}
            for method, dice in dice_by_method.items()
            for seed in range(2)
            for p in range(5)
            for name in ("front", "back")
        ]
    )  # fmt: skip


@pytest.mark.parametrize(("dice", "apart"), [(0.9, True), (0.501, False)])
def test_a_method_is_apart_where_no_interval_overlaps(dice, apart):
    scratch, method = report.summarise(rows_of({"scratch": 0.5, "voco": dice}), ["voco"])
    assert scratch["dice"] == pytest.approx(0.52)
    assert method["gain"] == pytest.approx(dice - 0.5)
    assert method["apart_from_scratch"] is apart


def test_every_start_keeps_the_plan_that_suits_it():
    dice = {("scratch", "a"): (0.5, 0.7), ("scratch", "b"): (0.8, 0.3),
            ("voco", "a"): (0.1, 0.2), ("voco", "b"): (0.1, 0.3)}  # fmt: skip
    trials = [
        {"method": method, "plan": plan, "seed": seed, "dice": value}
        for (method, plan), values in dice.items()
        for seed, value in enumerate(values)
    ]
    assert report.best_plans(pd.DataFrame(trials)) == {"scratch": "a", "voco": "b"}


def test_plans_are_not_chosen_on_seeds_that_are_compared():
    with pytest.raises(ConfigError, match=r"share \[9\]"):
        load(study.StudyConfig, study.SETTINGS, ["tuning.seeds=[1, 9]"])


@pytest.mark.slow
def test_it_pretrains_without_the_patients_held_aside_and_prints_a_table(shipped, tmp_path, capsys):
    data, work = tmp_path / "data", tmp_path / "work"
    (data / "volumes" / "mr").mkdir(parents=True)
    shutil.copy(shipped / "nifti/mr/mni_p00_T1W.nii.gz", data / "volumes/mr")
    shutil.copytree(shipped / "hippocampus", data / "segmentation/hippocampus")
    views = "{grid: [2, 2, 1], crop_voxels: 16, random_crops: 2}"
    method = f"{{name: voco, hidden_dim: 8, projection_dim: 8, views: {views}}}"
    settings = [
        "labels=[2]",
        "seeds=[0]",
        "budgets={short: 2}",
        "tuning.plans={slow: {optimizer: {lr: 1e-9}}, usual: {}}",
        "tuning.labels=2",
        "tuning.steps=2",
        "tuning.seeds=[9]",
        "pretrain.schedule={steps: 2, warmup_steps: 1}",
        "prepare.spacing_mm=[2.0, 2.0, 2.0]",
        f"methods={{voco: {{method: {method}}}}}",
    ]
    study.main([str(data), "--work", str(work), "--workers", "1", "--set", *settings])
    assert "Dice on patients held aside" in capsys.readouterr().out
    found = json.loads((work / "label_efficiency.json").read_text())
    assert [row["method"] for row in found["rows"]] == ["scratch", "voco"]
    assert len(found["tuning"]) == 2 * 2
    assert (work / "label_efficiency.png").stat().st_size > 1000
    folder = work / "short/2-labels" / found["plans"]["scratch"] / "scratch-0/finetune"
    config = json.loads((folder / "splits.json").read_text())
    labelled = read_labelled(study.dataset_of(data))
    held_aside = len(config["cases"]["test"])
    assert held_aside > 5
    assert len(CropStore(work / "store")) == len(labelled.cases) - held_aside + 1
