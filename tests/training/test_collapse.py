"""Collapse measured by its definition, and told once."""

import logging
import math

import pytest
import torch

from medssl.training.collapse import (
    CollapseAlarm,
    CollapseConfig,
    effective_rank,
    std_ratio,
)


def slow_effective_rank(z):
    rows = [row / row.norm() for row in z.double()]
    mean = sum(rows) / len(rows)
    centred = torch.stack([row - mean for row in rows])
    values = torch.linalg.eigvalsh(centred @ centred.T).clamp_min(0).sqrt()
    total = float(values.sum())
    entropy = 0.0
    for value in values.tolist():
        share = value / total
        entropy -= share * math.log(share) if share > 0 else 0
    return math.exp(entropy)


def test_effective_rank_matches_its_definition():
    z = torch.randn(12, 7, generator=torch.Generator().manual_seed(0))
    assert effective_rank(z) == pytest.approx(slow_effective_rank(z), rel=1e-4)


def test_std_ratio_is_one_on_a_uniform_sphere_and_zero_at_a_point():
    z = torch.randn(5000, 16, generator=torch.Generator().manual_seed(0))
    assert std_ratio(z) == pytest.approx(1.0, abs=0.02)
    assert std_ratio(torch.ones(10, 16)) == pytest.approx(0.0, abs=1e-6)


class FakeModule:
    def __init__(self, z_ND):
        self.last_z_ND, self.logged = z_ND, {}

    def log_dict(self, numbers):
        self.logged |= numbers


class FakeTrainer:
    global_step = 0


def run_alarm(z_ND, looks):
    alarm = CollapseAlarm(CollapseConfig(patience_steps=30), every_steps=10)
    module, trainer = FakeModule(z_ND), FakeTrainer()
    for look in range(looks):
        trainer.global_step = 10 * look
        alarm.on_train_batch_end(trainer, module)
    return alarm, module


def test_a_collapsed_embedding_raises_one_alarm_after_the_patience(caplog):
    line = torch.linspace(1, 2, 20)[:, None] * torch.ones(20, 8)
    with caplog.at_level(logging.WARNING):
        alarm, module = run_alarm(line + 1e-4 * torch.randn(20, 8), looks=6)
    assert alarm.raised
    assert [r.message.split(":")[1] for r in caplog.records] == [" the embedding is collapsing"]
    assert module.logged["collapse/std_ratio"] < 0.05


def test_a_healthy_embedding_raises_none(caplog):
    alarm, _ = run_alarm(torch.randn(20, 8), looks=6)
    assert not alarm.raised
    assert not caplog.records


def test_numbers_that_are_none_are_left_to_their_own_alarm():
    z_ND = torch.randn(20, 8)
    z_ND[3, 2] = torch.nan
    alarm, module = run_alarm(z_ND, looks=6)
    assert not alarm.raised
    assert not module.logged


def test_a_resumed_training_does_not_look_twice_at_one_step():
    alarm = CollapseAlarm(CollapseConfig(), every_steps=10, resumed_at=20)
    module, trainer = FakeModule(torch.randn(20, 8)), FakeTrainer()
    trainer.global_step = 20  # the first of several batches of the next step
    alarm.on_train_batch_end(trainer, module)
    assert not module.logged
