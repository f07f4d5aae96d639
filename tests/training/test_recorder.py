"""Numbers recorded once per step; clocks apart from what is computed."""

import json

import pytest
import torch
from torch import nn

from medssl.data.views import Batch
from medssl.runs.tracking import Tracker
from medssl.training.gradients import gradient_norm
from medssl.training.recorder import Recorder, SpeedRecorder, read_metrics


def test_rows_beyond_the_checkpoint_and_half_lines_are_cut_on_resume(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": step, "loss": 1.0} for step in (10, 20, 30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 40, "lo')
    Recorder(path, Tracker(), every_steps=10, resumed_at=20)
    assert read_metrics(path) == rows[:2]


class Told(Tracker):
    def __init__(self):
        self.numbers = {}

    def log_metrics(self, metrics, step=0):
        self.numbers |= {(step, name): value for name, value in metrics.items()}


class FakeTrainer:
    max_steps, world_size, global_step = 100, 2, 0

    def __init__(self, **logged):
        self.callback_metrics = {name: torch.tensor(value) for name, value in logged.items()}
        weight = nn.Parameter(torch.zeros(1))
        self.optimizers = [torch.optim.SGD([weight], lr=0.25)]


def linear(gradient):
    module = nn.Linear(2, 1)
    for weight in module.parameters():
        weight.grad = torch.full_like(weight, gradient)
    return module


def test_the_gradient_is_as_long_as_all_its_numbers_together():
    assert float(gradient_norm(linear(2.0))) == pytest.approx((3 * 2.0**2) ** 0.5)
    assert float(gradient_norm(nn.Linear(2, 1))) == 0


def test_a_row_holds_what_was_logged_the_gradient_and_the_learning_rate(tmp_path):
    told, trainer = Told(), FakeTrainer(loss=2.0, **{"val/loss": 3.0})
    recorder = Recorder(tmp_path / "m.jsonl", told, every_steps=2, resumed_at=0)
    for step in range(1, 4):
        trainer.optimizers[0].param_groups[0]["lr"] = step / 8
        recorder.on_before_optimizer_step(trainer, linear(float(step)))
        trainer.optimizers[0].param_groups[0]["lr"] = 9.0  # the next step's, set before it ends
        trainer.global_step = step
        recorder.on_train_batch_end(trainer)
    recorder.on_validation_end(trainer)
    expected = {"loss": 2.0, "gradient_norm": pytest.approx(2 * 3**0.5), "lr": 0.25}
    assert read_metrics(tmp_path / "m.jsonl") == [
        {"step": 2, **expected},
        {"step": 3, "val/loss": 3.0},
    ]
    assert told.numbers[2, "lr"] == 0.25


def test_waiting_is_what_passes_between_steps_and_validation_does_not_count(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("medssl.training.recorder.time.perf_counter", lambda: clock[0])
    speed = SpeedRecorder(tmp_path / "s.jsonl", Tracker(), every_steps=2, resumed_at=0)
    trainer, module = FakeTrainer(), nn.Linear(1, 1)
    module.device = torch.device("cpu")
    batch = Batch([torch.zeros(3, 1), torch.zeros(2, 1)], {})
    clock[0] = 7.0  # starts, which does not count, and neither does the first batch's wait
    for step in (1, 2):
        clock[0] += 1.0  # waits
        speed.on_train_batch_start()
        clock[0] += 3.0  # works
        trainer.global_step = step
        speed.on_train_batch_end(trainer, module, None, batch)
        clock[0] += 50.0  # validates
        speed.on_validation_end()
    (row,) = read_metrics(tmp_path / "s.jsonl")
    assert row == {
        "step": 2,
        "speed/crops_per_s": pytest.approx(2 * 2 * 5 / 7),
        "speed/step_s": 3.5,
        "speed/waiting_share": pytest.approx(1 / 7),
    }


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("medssl.training.recorder.rank", lambda: 1)
    recorder = Recorder(tmp_path / "m.jsonl", Tracker(), every_steps=1, resumed_at=0)
    recorder.file.write(1, {"loss": 1.0})
    assert not (tmp_path / "m.jsonl").exists()
