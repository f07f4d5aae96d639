"""``medssl zeroshot``, ``embed``, ``search``, ``grounding`` and ``trust`` as they are typed."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from medssl.cli.paired import add_commands
from medssl.io.nifti import write_nifti
from tests.evaluation.paired.bright_studies import (
    SAYS,
    SPACING_MM,
    volume,
    write_model,
    write_studies,
)
from tests.evaluation.paired.test_zeroshot import PROMPTS

OFF = "tracking.enabled=false"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("transformers", reason="texts need the extra `text`")
    folder = tmp_path_factory.mktemp("paired")
    write_model(folder)
    write_studies(folder)
    (folder / "prompts.yaml").write_text(PROMPTS)
    write_nifti(volume(201, planes=8), np.diag([*SPACING_MM, 1.0]), folder / "scan.nii.gz")
    return folder


@pytest.fixture
def command(folder, monkeypatch):
    monkeypatch.chdir(folder)
    app = typer.Typer(pretty_exceptions_enable=False)
    add_commands(app)

    def run(*words, ends=0):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == ends, done.output
        return done.output

    return run


def test_a_model_is_asked_in_words(command, folder):
    given = ("--store", "store", "--findings", "prompts.yaml", "--out", "zeroshot")
    told = command("zeroshot", "model", "pairs", *given, OFF, "resamples=100", "least_positive=3")
    assert "zeroshot: done" in told
    assert "modality_auroc" in told
    assert (folder / "zeroshot/zeroshot.html").is_file()


def test_weights_are_checked(command, folder):
    given = ("--store", "store", "--findings", "prompts.yaml", "--out", "trust")
    command("trust", "model", "pairs", *given, OFF, "backdoor.steps=2", "fooling.steps=2")
    assert json.loads((folder / "trust/trust.json").read_text())["in_words"]


def test_studies_are_embedded_and_found(command, folder):
    told = command("embed", "model", "pairs", "--store", "store", "--out", "index", OFF)
    assert "with_report" in told
    told = command("search", "model", "index", SAYS[1], "-k", 3, "--page", "found.html")
    lines = told.splitlines()
    assert [int(line.split("s")[1]) % 2 for line in lines[:3]] == [1, 1, 1]
    assert "Page: found.html" in told
    command("search", "model", "index", "--study", "s001", "--among", "reports")
    command("search", "model", "index", "--scan", "scan.nii.gz")
    command("search", "model", "index", ends=1)


def test_scans_are_embedded(command):
    told = command("embed", "model", "scan.nii.gz", "--out", "scans", OFF)
    assert "with_report  0" in told
    told = command("embed", "model", "a", "b", "--store", "store", "--out", "c", ends=2)
    assert "one folder of pairs" in told


def test_words_are_looked_for_in_scans(command, folder):
    words = ("--phrase", f"effusion={SAYS[1]}")
    command("grounding", "model", "scan.nii.gz", *words, "--out", "maps", OFF)
    assert (folder / "maps/maps/0001-1_01.nii.gz").is_file()
    dry = command("grounding", "model", "set", "--labels", *words, "--out", "x", "--dry-run")
    assert "dataset: set" in dry
    assert f"effusion: {SAYS[1]}" in dry
    told = command("grounding", "model", "a", "b", "--labels", *words, "--out", "x", ends=2)
    assert "one labelled set" in told
