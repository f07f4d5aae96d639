import json

import pytest

from pipelines.benchmarks.export_damage import main
from tests.export.encoders import write_run


def test_every_damage_is_found_and_named(tmp_path, capsys):
    run = write_run(tmp_path / "run", "unet")
    out = tmp_path / "damage.json"
    assert main([str(run), "--formats", "encoder_folder,nnunet,voco", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["missed"] == []
    said = {(row["format"], row["damage"]): row for row in report["rows"]}
    assert set(said) == {
        (form, damage)
        for form in ("encoder_folder", "nnunet")
        for damage in ("one value", "one name", "cut off")
    }
    value = said["encoder_folder", "one value"]
    assert value["listed"] == "encoder.safetensors: changed since it was exported"
    assert value["looked_into"] == ""
    assert "differs in 1 of" in value["reloaded"]
    assert "no whole safetensors file" in said["encoder_folder", "cut off"]["looked_into"]
    assert "Damaged exports" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torch_export"])
def test_kernels_and_names_of_graphs_are_damaged_too(tmp_path, form):
    run, out = write_run(tmp_path / "run", "unet"), tmp_path / "damage.json"
    assert main([str(run), "--formats", form, "--out", str(out)]) == 0
    said = {row["damage"]: row["reloaded"] for row in json.loads(out.read_text())["rows"]}
    assert set(said) == {"one value", "one name", "cut off"}
    assert "other numbers than the network" in said["one value"]


def test_a_run_that_fits_nothing_is_no_success(tmp_path, capsys):
    run = write_run(tmp_path / "run", "unet")
    assert main([str(run), "--formats", "swin_ssl"]) == 1
    assert "run, swin_ssl:" in capsys.readouterr().err
