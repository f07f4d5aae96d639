import json
from pathlib import Path

import pytest

from medssl.errors import InputError
from medssl.runs.manifest import Manifest
from medssl.runs.record import read_folder


def write_run(folder, **changes):
    facts = {
        "stage": "finetune",
        "status": "finished",
        "config": {"optimizer": {"lr": 0.1, "name": "adamw"}, "out": str(folder)},
        "config_digest": "c" * 64,
        "inputs": {"dataset": "d" * 64},
        "outputs": {"pretrained": "e" * 64},
        "versions": {"git_commit": "abc"},
        "summary": {"dice": 0.5, "device": "cpu"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    Manifest(**facts | changes).write(folder)
    return folder


def write_curve(path, *values, name="loss"):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"step": step, name: value} for step, value in enumerate(values, start=1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_folder_gives_settings_digests_numbers_and_curves(tmp_path):
    folder = write_run(tmp_path / "run")
    write_curve(folder / "metrics.jsonl", 3.0, 2.0)
    write_curve(folder / "pretrained" / "metrics.jsonl", 1.0)
    rows = [{"step": 5, "val/dice": 0.4}, {"step": 10, "val/dice": 0.6}]
    (folder / "pretrained" / "validation.json").write_text(json.dumps(rows))
    record = read_folder(folder)
    assert (record.label, record.stage) == ("run", "finetune")
    assert record.settings["optimizer.lr"] == "0.1"
    assert record.digests == {
        "input.dataset": "d" * 64,
        "output.pretrained": "e" * 64,
        "git_commit": "abc",
    }
    assert record.numbers == {"dice": 0.5}
    assert record.curves == {
        "loss": [(1, 3.0), (2, 2.0)],
        "pretrained/loss": [(1, 1.0)],
        "pretrained/val/dice": [(5, 0.4), (10, 0.6)],
    }


def test_the_folder_one_stands_in_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(write_run(tmp_path / "run"))
    assert read_folder(Path()).label == "run"


def test_of_a_resumed_run_the_later_value_of_a_step_counts_and_torn_lines_do_not(tmp_path):
    folder = write_run(tmp_path / "run")
    write_curve(folder / "metrics.jsonl", 3.0, 2.0, 1.0)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "loss": 9.0}\n{"step": 4, "lo')
    assert read_folder(folder).curves["loss"] == [(1, 3.0), (2, 9.0), (3, 1.0)]


def test_a_folder_without_a_run_says_so(tmp_path):
    with pytest.raises(InputError, match="this is not the folder of a run"):
        read_folder(tmp_path)
