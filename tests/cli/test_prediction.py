"""The command `predict`, as it is typed."""

import yaml
from typer.testing import CliRunner

from medssl.cli.main import app
from tests.finetuned import finetuned

QUIET = "tracking.enabled=false"


def typed(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def scan():
    return finetuned().parent / "balls" / "imagesTr" / "ball_0.nii.gz"


def test_a_scan_is_predicted_into_the_folder(tmp_path):
    said = typed("predict", finetuned() / "pretrained", scan(), QUIET, "--out", tmp_path / "out")
    assert said.exit_code == 0, said.output
    assert "predict: done" in said.output
    assert (tmp_path / "out" / "ball_0_seg.nii.gz").is_file()


def test_outputs_are_named_in_one_word(tmp_path):
    words = (finetuned() / "pretrained", scan(), QUIET, "--out", tmp_path, "--dry-run")
    told = yaml.safe_load(typed("predict", *words, "--to", "nifti, nifti", "--report").output)
    assert [output["name"] for output in told["outputs"]] == ["nifti", "nifti"]
    assert told["report"] is True
    assert yaml.safe_load(typed("predict", *words).output)["report"] is False


def test_an_unknown_output_is_answered_with_those_there_are(tmp_path):
    said = typed("predict", tmp_path, scan(), "--out", tmp_path / "out", "--to", "nifty")
    assert said.exit_code == 1
    assert "Did you mean 'nifti'?" in said.output
