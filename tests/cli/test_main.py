import errno
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from medssl.cli import run as run_module
from medssl.cli.main import app
from medssl.config.base import Config
from medssl.errors import InputError
from medssl.runs.stage import StageResult


@pytest.fixture
def command(monkeypatch):
    """Call the command line in this process, without touching its logging."""
    monkeypatch.setattr("medssl.cli.console.set_up", lambda **_: None)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def called(monkeypatch):
    """Replace every stage by one that only notes how it was called."""
    calls = []

    def call(request, config):
        calls.append((request.command, config, request.overwrite))
        return [StageResult(request.command, Path("f"), {"count": 3}, {"table": "t.csv"})]

    monkeypatch.setattr(run_module.Request, "_call", call)
    return calls


def write(path, **tree):
    path.write_text(yaml.safe_dump(tree))
    return path


def test_every_stage_is_a_command(command):
    text = command("--help").output
    stages = (
        "ingest",
        "curate",
        "prepare",
        "adapt",
        "pretrain",
        "finetune",
        "evaluate",
        "export",
        "predict",
    )
    for name in (
        *stages,
        "explain",
        "diff",
        "audit-leakage",
        "deidentify",
        "privacy-audit",
        "run",
        "doctor",
    ):
        assert f" {name} " in text
        assert command(name, "--help").exit_code == 0


def test_the_version(command):
    assert command("--version").output == "medssl 0.1.0\n"


def test_a_config_file_with_overrides(command, called, tmp_path):
    file = write(
        tmp_path / "a.yaml",
        store="s",
        out="o",
        method={"name": "voco"},
        encoder={"name": "segresnet"},
    )
    result = command("pretrain", file, "encoder.width=8", "seed=3", "--overwrite")
    assert result.exit_code == 0, result.output
    ((name, config, overwrite),) = called
    assert (name, config.encoder.width, config.seed, overwrite) == ("pretrain", 8, 3, True)
    assert "pretrain: done" in result.output
    assert "count" in result.output
    assert "t.csv" in result.output


def test_ingest_takes_sources_options_and_overrides(command, called):
    result = command(
        "ingest", "a", "b", "workers=3", "--library", "L", "--key-file", "K", "exclude=['*.tmp']"
    )
    assert result.exit_code == 0, result.output
    config = called[0][1]
    assert [str(path) for path in config.sources] == ["a", "b"]
    assert (str(config.library), str(config.key_file)) == ("L", "K")
    assert (config.workers, config.exclude) == (3, ("*.tmp",))


def test_a_source_with_an_equals_sign_is_a_source_where_it_exists(
    command, called, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "part=1").mkdir()
    command("ingest", "part=1", "--library", "L", "--key-file", "K")
    assert [str(path) for path in called[0][1].sources] == ["part=1"]


def test_arguments_count_more_than_the_file_and_overrides_most(command, called, tmp_path):
    file = write(tmp_path / "p.yaml", selection="from file", spacing_mm=[2, 2, 2], out="from file")
    command("prepare", "LIB", "--selection", "typed", "--config", file, "out=override")
    config = called[0][1]
    assert (config.selection, str(config.out)) == ("typed", "override")
    assert config.spacing_mm == (2, 2, 2)


def test_curate_export_and_predict_fill_their_configs(command, called):
    assert command("curate", "LIB", "--name", "sel").exit_code == 0
    assert command("export", "RUN", "--format", "monai_bundle", "--out", "O").exit_code == 0
    assert command("predict", "M", "a.nii", "b", "--out", "O").exit_code == 0
    curate, export, predict = (config for _, config, _ in called)
    assert (str(curate.library), curate.name) == ("LIB", "sel")
    assert (str(export.run), export.format.name) == ("RUN", "monai_bundle")
    assert [str(path) for path in predict.inputs] == ["a.nii", "b"]


def test_adapt_fills_its_config(command, called):
    command("adapt", "w.pt", "--encoder", "swin_unetr", "encoder.feature_size=96", "--part",
            "teacher", "--out", "encoders/l")  # fmt: skip
    ((name, config, _),) = called
    assert (name, str(config.weights), str(config.out)) == ("adapt", "w.pt", "encoders/l")
    assert (config.encoder.name, config.encoder.feature_size, config.part) == (
        "swin_unetr",
        96,
        "teacher",
    )


def test_a_format_typed_refines_the_files_format_of_the_same_name(command, called, tmp_path):
    file = write(tmp_path / "e.yaml", format={"name": "encoder_folder"}, card={})
    assert (
        command("export", "R", "--format", "monai_bundle", "--out", "O", "--config", file).exit_code
        == 0
    )
    assert called[0][1].format.name == "monai_bundle"


def test_all_mistakes_at_once_on_standard_error_and_exit_code_1(command, called, tmp_path):
    file = write(
        tmp_path / "a.yaml", store="s", method={"name": "voco"}, encoder={"name": "segresnet"}
    )
    result = command("pretrain", file, "method.temprature=0.1", "encoder.width=abc", "sede=1")
    assert result.exit_code == 1
    assert called == []
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0] == f"medssl: {file}: 4 problems"
    assert "  encoder.width: should be a whole number, found 'abc'" in lines
    assert "  out: required, but not set" in lines
    assert "  sede: unknown key. Did you mean 'seed'?" in lines
    assert any(line.startswith("  method.temprature: unknown key.") for line in lines)


def test_what_is_missing_on_the_command_line_is_named(command, called):
    result = command("predict", "M", "a.nii")
    assert result.exit_code == 1
    assert "the command line: 1 problem\n  out: required, but not set" in result.stderr


@pytest.mark.parametrize("words", [["pretrain"], ["pretrian"], ["curate", "L", "--nam", "x"], []])
def test_wrong_usage_is_exit_code_2(command, words):
    assert command(*words).exit_code == 2


def test_a_users_mistake_has_a_hint_and_no_traceback(command, monkeypatch):
    def fail(request, config):
        raise InputError("there is no catalog in LIB", hint="run `medssl ingest` first")

    monkeypatch.setattr(run_module.Request, "_call", fail)
    result = command("curate", "LIB", "--name", "x")
    assert result.exit_code == 1
    assert (
        result.stderr == "medssl: there is no catalog in LIB\n  hint: run `medssl ingest` first\n"
    )


def test_a_bug_is_not_dressed_up_as_a_users_mistake(command, monkeypatch):
    def fail(request, config):
        raise ZeroDivisionError

    monkeypatch.setattr(run_module.Request, "_call", fail)
    assert isinstance(command("curate", "LIB", "--name", "x").exception, ZeroDivisionError)


def test_dry_run_prints_the_whole_configuration_and_does_nothing(command, called):
    result = command("curate", "LIB", "--name", "x", "splits.seed=9", "--dry-run")
    assert result.exit_code == 0
    tree = yaml.safe_load(result.output)
    assert tree["splits"]["seed"] == 9
    assert "modality" in [rule["name"] for rule in tree["rules"]]
    assert called == []


SLOW = """
import sys, time
from pathlib import Path
from medssl.cli import run as module
from medssl.cli.main import main
def wait(request, config):
    print("ready", flush=True)
    time.sleep(60)
def leave(request, config):
    try:
        wait(request, config)
    except KeyboardInterrupt:
        sys.exit(1)  # as Lightning does
module.Request._call = {"wait": wait, "leave": leave}[sys.argv.pop(1)]
main()
"""


@pytest.mark.parametrize(
    ("how", "number", "code"),
    [("wait", signal.SIGINT, 130), ("leave", signal.SIGINT, 130), ("wait", signal.SIGTERM, 143)],
)
def test_an_interruption_says_how_to_continue(how, number, code):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, how, "curate", "LIB", "--name", "x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == code
    assert "run the same command again" in error
    assert "Traceback" not in error


def test_the_command_knows_every_stage_config():
    for module, name in run_module._WHERE.values():
        assert issubclass(getattr(importlib.import_module(module), name), Config)


def test_explain_says_what_became_of_one_file(command, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(
        "medssl.ingest.explain.explain", lambda *words: seen.append(words) or "converted"
    )
    result = command("ingest", "--explain", "a.dcm", "--library", "L", "--key-file", "K")
    assert result.exit_code == 0, result.output
    assert seen == [(Path("L"), "a.dcm", Path("K"))]
    assert "converted" in result.output


def test_explain_without_a_library_is_wrong_usage(command):
    result = command("ingest", "--explain", "a.dcm")
    assert result.exit_code == 2
    assert "--explain also needs --library and --key-file" in result.output


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_in_words(number, capsys):
    def fills():
        with run_module.user_errors_explained():
            raise OSError(number, os.strerror(number), "runs/a/metrics.jsonl")

    with pytest.raises(SystemExit, match="1"):
        fills()
    said = capsys.readouterr().err
    assert f"runs/a/metrics.jsonl: {os.strerror(number)}" in said
    assert "it goes on where it stopped" in said


def test_another_error_of_the_system_is_a_bug_and_shown_whole():
    def breaks():
        with run_module.user_errors_explained():
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        breaks()
