"""The pretraining stage: what it leaves, and that a kill -9 changes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from medssl.config.load import validate
from medssl.data.store import CropStore
from medssl.errors import PreemptedError
from medssl.models.weights import load_encoder
from medssl.training.checkpoint import latest
from medssl.training.preemption import StopWhenTold
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.recorder import read_metrics
from medssl.training.schedule import ScheduleConfig
from tests.training import configs
from tests.training.stores import write_store


def tree(store, out, **schedule):
    return configs.voco(
        store,
        out,
        schedule={"steps": 12, "warmup_steps": 2, **schedule},
        rhythm={"record_steps": 2, "validate_steps": 5, "checkpoint_steps": 3},
        engine={"accelerator": "cpu"},
    )


def config_of(values):
    return validate(PretrainConfig, values, where="test")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "store")


def test_a_run_leaves_an_encoder_curves_and_numbers(store, tmp_path):
    config = config_of(tree(store, tmp_path / "run"))
    result = pretrain(config)
    assert result.summary["steps"] == 12
    for path in result.look_at.values():
        assert (result.folder / path).stat().st_size > 0
    encoder, about = load_encoder(result.folder)
    assert encoder.embed(torch.zeros(1, 1, 8, 8, 8)).shape == (1, encoder.embed_dim)
    assert about["spacing_mm"] == [3.0, 3.0, 3.0]
    rows = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [2, 4, 6, 8, 10, 12]
    validated = [row for row in rows if "val/intra" in row]
    assert [row["step"] for row in validated] == [5, 10]
    assert {"val/intra_constant", "val/nearest_base_accuracy"} <= validated[0].keys()
    assert pretrain(config).skipped


def test_accumulated_batches_are_one_step_and_one_teacher_update(store, tmp_path, monkeypatch):
    from medssl.methods.voco import VoCo

    calls = []
    monkeypatch.setattr("medssl.training.pretrain.rehearse", lambda *_: None)
    monkeypatch.setattr(VoCo, "before_step", lambda self, progress: calls.append(progress))
    values = tree(store, tmp_path / "run", steps=4)
    values["engine"]["accumulate"] = 3
    pretrain(config_of(values))
    assert calls == [0.0, 0.25, 0.5, 0.75]


def test_a_store_without_the_split_is_named(store, tmp_path):
    from medssl.errors import InputError

    values = tree(store, tmp_path / "run")
    values["data"] = {"split": "nowhere"}
    with pytest.raises(InputError, match="no volume in the split 'nowhere'"):
        pretrain(config_of(values))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("stop_at", [1, 3, 4, 8])
def test_a_run_stopped_at_any_step_records_what_an_unbroken_one_does(
    store, tmp_path, monkeypatch, stop_at, accumulate
):
    """Where it saves and validates at one step too; the rate is that of each step."""
    table = tmp_path / "labels.csv"
    keys = CropStore(store).keys("train")
    lines = [f"{key},{'ab'[n % 2]}" for n, key in enumerate(keys)]
    table.write_text("\n".join(["volume_key,label", *lines]))
    rows = {}
    for name in ("unbroken", "broken"):
        values = tree(store, tmp_path / name, steps=9)
        values["rhythm"] = {"record_steps": 1, "validate_steps": 4, "checkpoint_steps": 4}
        values["engine"]["accumulate"] = accumulate
        values["probe"] = {"table": str(table), "every_steps": 4, "folds": 2}
        if name == "broken":
            with monkeypatch.context() as patch:
                patch.setattr(StopWhenTold, "_told", lambda self: at(self) == stop_at)
                patch.setattr(StopWhenTold, "setup", remember)
                with pytest.raises(PreemptedError):
                    pretrain(config_of(values))
            assert latest(tmp_path / name / "checkpoints").steps == stop_at
        pretrain(config_of(values))
        rows[name] = read_metrics(tmp_path / name / "metrics.jsonl")
    assert rows["broken"] == rows["unbroken"]
    recorded = [row["lr"] for row in rows["broken"] if "lr" in row]
    schedule = ScheduleConfig(steps=9, warmup_steps=2)
    assert recorded == pytest.approx([1e-3 * schedule.factor(step) for step in range(9)])
    assert [row["step"] for row in rows["broken"] if "val/loss" in row] == [4, 8]
    assert [row["step"] for row in rows["broken"] if "probe/knn" in row] == [4, 8, 9]


def remember(self, trainer, *_, **__):
    self.trainer = trainer


def at(callback):
    return callback.trainer.global_step


SCRIPT = """
import sys, yaml, torch
from pathlib import Path
from medssl.config.load import load
from medssl.training.pretrain import PretrainConfig, pretrain
torch.set_num_threads(1)
if __name__ == "__main__":
    pretrain(load(PretrainConfig, Path(sys.argv[1])))
"""


def start(folder: Path, values) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    (folder / "run.py").write_text(SCRIPT)
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen(
        [sys.executable, folder / "run.py", folder / "config.yaml"], env=environment
    )


@pytest.mark.slow  # three trainings, each a process of its own
def test_killed_and_resumed_ends_with_the_same_bits_in_the_same_mlflow_run(store, tmp_path):
    """SIGKILL between two checkpoints; the resumed run must not be told from an unbroken one."""
    weights = {}
    for name in ("unbroken", "broken"):
        values = tree(store, tmp_path / name / "run", steps=60)
        values["loader"]["workers"] = 1
        values["tracking"] = {"enabled": True, "uri": f"sqlite:///{tmp_path / 'mlflow.db'}"}
        if name == "broken":
            process = start(tmp_path / name, values)
            log = tmp_path / name / "run" / "metrics.jsonl"
            deadline = time.monotonic() + 120
            while len(log.read_text().splitlines() if log.exists() else []) < 12:
                assert process.poll() is None, "ended before it could be killed"
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert 0 < latest(tmp_path / name / "run" / "checkpoints").steps < 60
            before = json.loads((tmp_path / name / "run" / "manifest.json").read_text())
            assert before["status"] == "running"
        assert start(tmp_path / name, values).wait() == 0
        run = tmp_path / name / "run"
        weights[name] = load_file(run / "encoder.safetensors")
        last = torch.load(latest(run / "checkpoints").path, weights_only=True)
        weights[name] |= last["state_dict"]
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        weights[name + " log"] = rows
    assert weights["unbroken"].keys() == weights["broken"].keys()
    for key, value in weights["unbroken"].items():
        assert torch.equal(value, weights["broken"][key]), key
    assert weights["unbroken log"] == weights["broken log"]
    assert runs_in(tmp_path / "mlflow.db") == 2


def runs_in(database: Path) -> int:
    import sqlite3

    with sqlite3.connect(database) as connection:
        return int(connection.execute("select count(*) from runs").fetchone()[0])
