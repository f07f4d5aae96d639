"""``medssl pretrain --plan`` and ``medssl replay`` as they are typed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medssl.cli.main import app

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "pretrain" / "voco.yaml"
SMALL = ("encoder.width=4", "encoder.blocks=[1,1]", "method.views.crop_voxels=8")


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setattr("medssl.cli.console.set_up", lambda **_: None)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_a_plan_is_printed_and_written_and_nothing_is_started(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = command(
        "pretrain",
        CONFIG,
        "out=run",
        "store=none",
        *SMALL,
        "--plan",
        "--gpu",
        "a100",
        "--json",
        "p.json",
    )
    assert result.exit_code == 0, result.output
    for words in ("NVIDIA A100", "it fits", "GFLOP", "hours", "Assumed: 40%", "20000 steps"):
        assert words in result.output
    assert json.loads((tmp_path / "p.json").read_text())["steps"] == 20000
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def test_a_plan_that_does_not_fit_says_what_to_lower(command):
    result = command("pretrain", CONFIG, *SMALL, "plan.reserve_gib=100", "--plan")
    assert result.exit_code == 0
    assert "does NOT fit" in result.output
    assert "loader.volumes_per_batch lower, engine.accumulate higher;" in result.output


def test_a_plan_that_holds_as_little_as_settings_can_says_what_else_would(command):
    chosen = ["loader.volumes_per_batch=1", "engine.precision=bf16-mixed"]
    chosen += ["engine.checkpoint_activations=true", "method.crops_at_once=1"]
    result = command("pretrain", CONFIG, *SMALL, *chosen, "plan.reserve_gib=100", "--plan")
    assert result.exit_code == 0, result.output
    assert "To hold less: smaller crops or a smaller encoder." in result.output


def test_an_unknown_card_is_an_error_a_person_can_mend(command):
    result = command("pretrain", CONFIG, *SMALL, "--plan", "--gpu", "abacus")
    assert result.exit_code == 1
    assert "no GPU is known as 'abacus'" in result.output


def test_a_card_without_a_plan_is_a_mistake(command):
    assert command("pretrain", CONFIG, "--gpu", "a100").exit_code == 2


def test_replaying_where_nothing_broke_says_so(command, tmp_path):
    result = command("replay", tmp_path)
    assert result.exit_code == 1
    assert "no batch is kept here" in result.output


def test_what_a_replay_found_is_said(command, tmp_path, monkeypatch):
    from medssl.training.offending import Offence
    from medssl.training.replay import Finding, Replayed

    offence = Offence(
        what="gradient", step=11, batch_index=22, progress=0.5, seed=0, process=0, config_digest=""
    )
    found = Replayed(offence, tmp_path / "nonfinite", 10, Finding("module", "encoder.net.0"))
    monkeypatch.setattr("medssl.training.replay.replay", lambda run: found)
    result = command("replay", tmp_path)
    assert result.exit_code == 0
    assert "The gradient of step 12, batch 22, was no finite number" in result.output
    assert "the output of the module encoder.net.0, whose input is finite" in result.output
