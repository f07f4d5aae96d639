"""Curves of a method are drawn beside its bound; what cannot run is named."""

import json

import pandas as pd
import pytest

from medssl.config.load import load
from medssl.errors import ConfigError
from medssl.library.catalog import COLUMNS
from pipelines.benchmarks import learning_curves
from pipelines.benchmarks.learning_curves import CONFIGS, SETTINGS, CurvesConfig, tree_of
from tests.training.stores import write_store


def test_a_method_is_trained_drawn_and_compared_with_its_bound(tmp_path, capsys):
    store, work = write_store(tmp_path / "store"), tmp_path / "work"
    broken = tmp_path / "broken.yaml"
    broken.write_text("encoder: {name: segresnet}\nmethod: {name: no_such_method}\n")
    arguments = [str(CONFIGS / "voco.yaml"), str(broken), "--store", str(store)]
    arguments += ["--work", str(work), "--set", "steps=2", "tiny=true"]
    arguments += ["shared={loader: {volumes_per_batch: 2, workers: 0}}"]
    for _ in range(2):  # the second time everything is there
        assert learning_curves.main(arguments) == 0
    result = json.loads((work / "learning_curves.json").read_text())
    found = result["methods"]["voco"]
    assert "intra" in found["below_constant"]
    assert found["last"]["val/intra"] > 0
    assert "no_such_method" in result["skipped"]["broken"]
    assert (work / "learning_curves.png").stat().st_size > 0
    assert "skipped broken" in capsys.readouterr().out


def test_small_crops_are_given_to_a_network_that_can_read_them(tmp_path):
    path = CONFIGS / "voco_paper.yaml"
    bare = ["shared={}", "own={}"]
    tree = tree_of(path, load(CurvesConfig, SETTINGS, bare), tmp_path, tmp_path)
    views = tree["method"]["views"]
    assert (views["crop_voxels"], views["resize_to"]) == (24, None)
    assert tree["encoder"]["name"] == "segresnet"
    study = load(CurvesConfig, SETTINGS, [*bare, "crop_voxels=64"])
    assert tree_of(path, study, tmp_path, tmp_path)["encoder"]["name"] == "swin_unetr"


def test_settings_of_one_configuration_count_most(tmp_path):
    own = "own={voco: {schedule: {steps: 7}, method: {hidden_dim: 5}, encoder: {name: vit}}}"
    study = load(CurvesConfig, SETTINGS, [own])
    tree = tree_of(CONFIGS / "voco.yaml", study, tmp_path, tmp_path)
    assert tree["schedule"] == {"steps": 7, "warmup_steps": 0}
    assert tree["method"]["hidden_dim"] == 5
    assert tree["encoder"] == {"name": "vit"}
    other = tree_of(CONFIGS / "simclr.yaml", study, tmp_path, tmp_path)
    assert other["schedule"]["steps"] == study.steps


def test_a_store_that_nobody_describes_is_refused():
    with pytest.raises(ConfigError, match="stores has no slices: describe"):
        load(CurvesConfig, SETTINGS, ["store_of={simclr: slices}"])


def test_volumes_of_a_patient_that_state_no_frame_get_one(tmp_path, monkeypatch):
    rows = pd.DataFrame(
        {"volume_key": ["a", "b", "c"], "patient_key": ["p", "p", "q"], "frame_key": ["", "", "f"]}
    )
    assert set(rows) <= set(COLUMNS)

    class Table:
        def to_pandas(self):
            return rows

    monkeypatch.setattr(learning_curves, "read_catalog_table", lambda *_: Table())
    written = pd.read_csv(learning_curves.write_frames(tmp_path, tmp_path / "frames.csv"))
    assert written.to_dict("list") == {"volume_key": ["a", "b"], "group": ["p", "p"]}
