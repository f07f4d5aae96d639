"""``medssl register``, ``lineage``, ``compare`` and ``board`` as they are typed."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from medssl.cli.tracking import _fitting, add_commands, comparison_in_words, lineage_in_words
from medssl.runs.compare import Row
from medssl.runs.mlflow.lineage import Step
from medssl.runs.tracking import TrackingConfig
from tests.finetuned import finetuned
from tests.mlflow_servers import blank_store
from tests.runs.test_record import write_curve, write_run
from tests.runs.test_tracking import do_stage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def command():
    app = typer.Typer(pretty_exceptions_enable=False)
    add_commands(app)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_a_model_is_registered_and_its_lineage_printed(command, tmp_path, monkeypatch):
    shutil.copytree(finetuned(), tmp_path / "run")
    blank_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = command("register", "run/pretrained", "--name", "balls", "--alias", "champion")
    assert done.exit_code == 0, done.output
    assert "balls, version 1, weights" in done.output
    assert 'mlflow.pyfunc.load_model("models:/balls@champion")' in done.output
    walked = command("lineage", "models:/balls@champion")
    assert walked.exit_code == 0, walked.output
    assert walked.output.splitlines()[0] == "models:/balls@champion"
    assert "model" in walked.output
    assert "finetune, run " in walked.output
    assert "dataset" in walked.output
    assert "no run of this store made it" in walked.output


def test_runs_are_compared_from_their_folders(command, tmp_path, monkeypatch):
    for name, lr in (("one", 0.1), ("two", 0.3)):
        folder = write_run(tmp_path / name, config={"lr": lr, "seed": 1}, summary={"dice": lr})
        write_curve(folder / "metrics.jsonl", 2.0, 1.0)
    monkeypatch.chdir(tmp_path)
    done = command("compare", "one", "two", "--out", "c")
    assert done.exit_code == 0, done.output
    for words in ("Set otherwise", "lr", "0.3", "What came of it", "dice", "c/curves.png"):
        assert words in done.output
    assert "seed" not in done.output
    assert (tmp_path / "c" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "setting,lr,0.1,0.3" in (tmp_path / "c" / "comparison.csv").read_text()


def test_a_folder_is_compared_with_the_record_of_it_in_mlflow(command, tmp_path, monkeypatch):
    blank_store(tmp_path)
    do_stage("pretrain", tmp_path / "run", TrackingConfig())
    monkeypatch.chdir(tmp_path)
    run_id = next(tmp_path.glob("run/tracking/*/remote.json")).read_text().split('"')[-2]
    done = command("compare", "run", f"runs:/{run_id}")
    assert done.exit_code == 0, done.output
    (dice,) = [line.split() for line in done.output.splitlines() if line.startswith("dice")]
    assert dice == ["dice", "0.5", "0.5"]
    assert "Set otherwise\nnothing\n" in done.output
    assert "Made of\nnothing" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compare", "nowhere"), "this is not the folder of a run"),
        (("lineage", "models:/x"), "there is no mlflow.db"),
        (("lineage", "models:/x", "--store", "http://a:secret@127.0.0.1:9"), "user name"),
        (("register", "nowhere", "--name", "x"), "there is no task model"),
        (("board", "."), "there is no mlflow.db"),
    ],
)
def test_mistakes_are_explained(command, tmp_path, monkeypatch, words, said):
    (tmp_path / "a/b/c/d/e").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b/c/d/e")
    done = command(*words)
    assert done.exit_code == 1
    assert said in done.output
    assert "secret" not in done.output


def test_a_server_that_runs_already_is_only_shown(command, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@127.0.0.1:9")
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    done = command("board")
    assert done.output.strip() == "MLflow: http://127.0.0.1:9"
    assert opened == ["http://127.0.0.1:9"]
    command("board", "--no-open")
    assert len(opened) == 1


BOARD = """
import typer
from medssl.cli.tracking import add_commands
app = typer.Typer()
add_commands(app)
app()
"""


@pytest.mark.slow
def test_the_board_runs_until_ctrl_c(tmp_path):
    do_stage("pretrain", tmp_path / "run", TrackingConfig())
    process = subprocess.Popen(
        [sys.executable, "-c", BOARD, "board", str(tmp_path), "--no-open"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline().startswith("MLflow: http://127.0.0.1:")
        assert process.stdout.readline() == "Ctrl-C ends it.\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "Ended.\n"
        assert process.wait(timeout=30) == 0


def test_a_walk_is_indented_and_says_what_no_run_made():
    steps = [
        Step(depth=0, what="model", digest="a" * 64, stage="finetune", run_id="r", started_ms=0),
        Step(depth=1, what="encoder", digest="b" * 64),
    ]
    assert lineage_in_words(steps) == [
        "  model                aaaaaaaaaaaa  finetune, run r, 1970-01-01 00:00 UTC",
        "    encoder            bbbbbbbbbbbb  no run of this store made it",
    ]


def test_columns_stand_under_each_other_and_long_values_are_cut_in_the_middle():
    rows = [Row("setting", "lr", ("0.1", "x" * 60)), Row("number", "dice", ("1", "2"))]
    lines = comparison_in_words(["a", "b"], rows)
    assert lines[0] == "      a    b"
    assert lines[3].startswith("lr    0.1  xxx")
    assert len(lines[3]) <= 100
    assert lines[-1] == "nothing"
    assert _fitting("0123456789", 7) == "01...89"
