"""``medssl finetune``, once and as a study, as it is typed."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from medssl.cli import run as run_module
from medssl.cli.main import app

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ONCE, STUDY = CONFIGS / "finetune" / "hippocampus.yaml", CONFIGS / "study" / "hippocampus.yaml"


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setattr("medssl.cli.console.set_up", lambda **_: None)
    return lambda *words: CliRunner().invoke(app, ["finetune", *map(str, words)])


@pytest.fixture
def asked(monkeypatch):
    """What would be run: the name of the stage, and its configuration."""
    seen = []
    monkeypatch.setattr(
        run_module.Request, "run", lambda self: seen.append((self.command, self.config()))
    )
    return seen


def test_without_a_list_it_is_one_finetuning(command, asked):
    assert command(ONCE, "seed=3").exit_code == 0
    ((name, config),) = asked
    assert (name, config.seed, config.from_scratch_twin) == ("finetune", 3, True)


def test_a_twin_can_be_left_out(command, asked):
    command(ONCE, "--no-from-scratch-twin")
    assert asked[0][1].members == ("pretrained",)


def test_lists_make_it_a_study(command, asked):
    result = command(
        ONCE, "out=there", "schedule.steps=77", "--from-scratch-twin",
        "--label-fractions", "0.02,0.1,1", "--seeds", "0..2,7", "--workers", "3",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    ((name, config),) = asked
    assert name == "study"
    assert config.study.label_fractions == (0.02, 0.1, 1.0)
    assert config.study.seeds == (0, 1, 2, 7)
    assert (config.study.workers, config.study.folds) == (3, None)
    assert (config.out, config.schedule.steps) == (Path("there"), 77)


@pytest.mark.parametrize(
    ("words", "study"),
    [
        (["--seeds", "5"], {"seeds": (5,), "label_fractions": (1.0,)}),
        (["--label-fractions", "0.5"], {"label_fractions": (0.5,), "seeds": (0, 1, 2, 3, 4)}),
        (["--folds", "5"], {"folds": 5}),
        (["study.confidence=0.9"], {"confidence": 0.9}),
    ],
)
def test_one_list_is_enough(command, asked, words, study):
    result = command(ONCE, *words)
    assert result.exit_code == 0, result.output
    assert {name: getattr(asked[0][1].study, name) for name in study} == study


def test_a_file_with_a_section_study_is_one_and_flags_count_more(command, asked):
    command(STUDY, "--seeds", "9")
    ((name, config),) = asked
    assert name == "study"
    assert config.study.seeds == (9,)
    assert config.study.label_fractions == (0.1, 0.3, 1.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--label-fractions", "2"], "found 2; for 2 % write 0.02"),
        (["--label-fractions", "0"], "above 0 and at most 1 (all of them), found 0"),
        (["--label-fractions", "0.1,0.10"], "should name each once, found 0.1 more than once"),
        (["--label-fractions", "all"], "study.label_fractions: should be a number, found 'all'"),
        (["--label-fractions", ","], "study.label_fractions: should have at least 1 items"),
        (["--seeds", "4..0"], "the range 4..0 runs backwards: write 0..4"),
        (["--seeds", "0..2,1"], "should name each once, found 1 more than once"),
        (["--seeds", "1.5"], "study.seeds: should be a whole number"),
        (["--folds", "1"], "study.folds: should be greater than or equal to 2"),
        (["--seeds", "0", "splits.train_fraction=0.5"], "the section study decides about splits."),
        (["--seeds", "0", "--no-from-scratch-twin"], "a study compares an encoder with its twin"),
        (["--seeds", "0", "--workers", "dask://x"], "should be a number, inline, dask://host:port"),
    ],
)
def test_a_mistake_is_explained(command, words, said):
    result = command(ONCE, *words)
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_workers_without_a_study_are_wrong_usage(command):
    result = command(ONCE, "--workers", "2")
    assert result.exit_code == 2
    assert "--workers belongs to a study" in result.output


def test_help_has_an_example(command):
    result = command("--help")
    assert result.exit_code == 0
    assert "--label-fractions 0.02,0.1,1 --seeds 0..4" in result.output


def test_a_dry_run_shows_all_of_it_and_begins_nothing(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = command(STUDY, "--dry-run")
    assert yaml.safe_load(result.output)["study"]["seeds"] == [0, 1, 2, 3, 4]
    assert not list(tmp_path.iterdir())
