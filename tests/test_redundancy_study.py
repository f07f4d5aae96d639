"""The study of fewer slices: intervals by their definition, and all of it at the smallest size."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from medssl.config.load import validate
from medssl.errors import ConfigError
from pipelines import redundancy_report as report
from pipelines import redundancy_study as study
from tests.covid_ct import challenge

PATIENTS = ["a", "a", "b", "c", "c", "d", "e"]
TARGET_N = np.array([1.0, 1, 0, 0, 0, 1, 1])


def slow_auroc(target_N, scores_N):
    """Count the pairs in order, ties by half."""
    pairs = [
        (p > n) + 0.5 * (p == n)
        for p, wanted in zip(scores_N, target_N, strict=True)
        if wanted == 1
        for n, other in zip(scores_N, target_N, strict=True)
        if other == 0
    ]
    return np.mean(pairs) if pairs else np.nan


def test_draws_are_those_of_seeds_and_patients():
    scores_SN = np.random.default_rng(1).integers(0, 5, (3, 7)) / 4
    rng, by_hand = np.random.default_rng(0), []
    for _ in range(40):
        seeds, drawn = rng.integers(3, size=3), rng.integers(5, size=5)
        rows = [n for d in drawn for n, who in enumerate(PATIENTS) if who == "abcde"[d]]
        by_hand.append(np.mean([slow_auroc(TARGET_N[rows], scores_SN[s][rows]) for s in seeds]))
    found = report.auroc_draws(TARGET_N, scores_SN, PATIENTS, 40)
    np.testing.assert_allclose(found, by_hand)
    assert 0 < np.isnan(found).sum() < 40


def scored(arms):
    """Return images of ten patients, positive every other one, and an arm's shift of positives."""
    rng = np.random.default_rng(3)
    noise = {seed: rng.random(20) for seed in (0, 1)}
    return pd.DataFrame(
        [
            {"case_key": f"case-{n:02}", "patient_key": f"p{n // 2}", "target": n // 2 % 2,
             "probability": noise[seed][n] + shift * (n // 2 % 2), "arm": arm, "seed": seed,
             "val_auroc": 0.9}
            for arm, shift in arms.items()
            for seed in (0, 1)
            for n in range(20)
        ]
    )  # fmt: skip


TIMED = pd.DataFrame(
    {
        "arm": ["all", "all", "few", "few"],
        "seed": [0, 1, 0, 1],
        "steps": [90, 90, 10, 10],
        "seconds": [100.0, 80.0, 9.0, 11.0],
    }
)


@pytest.mark.parametrize(("shift", "apart"), [(5.0, "few"), (0.0, "none")])
def test_an_arm_is_apart_where_its_paired_interval_leaves_out_zero(shift, apart):
    table = scored({"scratch": 0.0, "all": 0.0, "few": shift})
    rows = report.summarise(table, TIMED, {"all": 30, "few": 4}, 200)
    assert [row["arm"] for row in rows] == ["scratch", "all", "few"]
    assert rows[1]["gain"] == rows[1]["gain_low"] == rows[1]["gain_high"] == 0
    assert rows[1]["seconds"] == 90
    assert rows[2]["auroc"] == pytest.approx(np.mean(rows[2]["by_seed"]))
    blind = [{"shortcut": "border", "auroc": 0.7, "low": 0.6, "high": 0.8, "val_auroc": 0.9}]
    told = report.sentence(rows, blind)
    assert f"of 1 to all slices: {apart}; of 2 to scratch: {apart};" in told
    assert "9.0x shorter (few)" in told
    assert "border alone reaches 0.70 (0.60 to 0.80)" in told


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        (
            "{a: {slices: {name: hash}}, b: {slices: {name: hash}, as_long_as: c}}",
            r"\['c'\], which",
        ),
        (
            "{a: {slices: {name: hash}}, scratch: {slices: {name: hash}}}",
            "cannot be called scratch",
        ),
        ("{a: {slices: {name: hash}}}", "arms"),
    ],
)
def test_arms_that_cannot_be_compared_are_refused_before_anything_runs(arms, said):
    settings = yaml.safe_load(study.SETTINGS.read_text()) | {"arms": yaml.safe_load(arms)}
    with pytest.raises(ConfigError, match=said):
        validate(study.StudyConfig, settings, where="test")


def test_it_trains_as_long_as_the_settings_say_and_prints_its_tables(shipped, tmp_path, capsys):
    data, work = tmp_path / "data", tmp_path / "work"
    (data / "volumes/ct").mkdir(parents=True)
    for name in ("cmbcrc_p01_chest", "kits_p72_chest"):
        shutil.copy(shipped / "nifti/ct" / f"{name}.nii.gz", data / "volumes/ct")
    challenge(data / "covid-ct")
    whole = "{slices: {name: random_k, share: 1.0, min_foreground: 0.0}}"
    few = "{slices: {name: every_mm, step_mm: 80.0, max_gap_mm: 80.0}, as_long_as: all}"
    settings = [
        "seeds=[0]",
        "epochs=1",
        "draws=20",
        "ingest={sources: [volumes/ct], modalities: {'*': CT}, workers: inline}",
        "curate.workers=1",
        "prepare={spacing_mm: [8.0, 8.0, 8.0], workers: 1}",
        f"arms={{all: {whole}, few: {few}}}",
        "pretrain.method.views.crop_voxels=32",
        "pretrain.encoder={name: unet, dims: 2, channels: [4, 8], depths: [1, 1]}",
        "pretrain.rhythm.record_steps=1",
        "finetune.patch_voxels=[16, 16, 1]",
        "finetune.splits={val: 0.5}",
        "finetune.schedule={steps: 2, warmup_steps: 1}",
    ]
    study.main([str(data), "--work", str(work), "--set", *settings])
    told = " ".join(capsys.readouterr().out.split())
    assert "AUROC on this set partly measures the source" in told
    found = json.loads((work / "redundancy.json").read_text())
    scratch, whole, few = found["rows"]
    assert scratch["arm"] == "scratch"
    assert "steps" not in scratch
    samples = math.ceil(whole["slices"] / 4)
    assert few["slices"] < whole["slices"]
    assert few["steps"] == whole["steps"] == math.ceil(samples / 3)
    for row in found["rows"]:
        assert 0 <= row["low"] <= row["high"] <= 1
    assert [row["shortcut"] for row in found["shortcuts"]] == ["size", "border", "thumbnail"]
