"""Curves of a method are drawn beside its bound; what cannot run is named."""

import json

from pipelines.benchmarks import learning_curves
from tests.training.stores import write_store


def test_a_method_is_trained_drawn_and_compared_with_its_bound(tmp_path, capsys):
    store, work = write_store(tmp_path / "store"), tmp_path / "work"
    broken = tmp_path / "broken.yaml"
    broken.write_text("encoder: {name: segresnet}\nmethod: {name: no_such_method}\n")
    config = learning_curves.CONFIGS / "voco.yaml"
    arguments = [str(config), str(broken), "--store", str(store), "--work", str(work)]
    arguments += ["--steps", "2", "--volumes", "2", "--tiny"]
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
    path = learning_curves.CONFIGS / "voco_paper.yaml"
    given = ["--store", str(tmp_path), "--work", str(tmp_path), "--precision", "bf16-mixed"]
    tree = learning_curves.tree_of(path, learning_curves._options([*given, "--crop", "24"]))
    views = tree["method"]["views"]
    assert (views["crop_voxels"], views["resize_to"]) == (24, None)
    assert tree["encoder"]["name"] == "segresnet"
    assert tree["engine"]["precision"] == "bf16-mixed"
    large = learning_curves.tree_of(path, learning_curves._options([*given, "--crop", "64"]))
    assert large["encoder"]["name"] == "swin_unetr"
