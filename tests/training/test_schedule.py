"""The learning rate over steps, by its formula."""

import math

import pytest
import torch

from medssl.config.load import validate
from medssl.errors import ConfigError
from medssl.training.optimizer import OptimizerConfig
from medssl.training.schedule import ScheduleConfig


def test_warms_up_in_a_line_then_falls_as_half_a_cosine_to_zero():
    schedule = ScheduleConfig(steps=110, warmup_steps=10)
    rising = [schedule.factor(step) for step in range(10)]
    assert rising == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert schedule.factor(10) == 1
    assert schedule.factor(60) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5)))
    assert schedule.factor(110) == pytest.approx(0)


def test_a_warm_up_as_long_as_the_training_is_refused():
    with pytest.raises(ConfigError, match=r"warmup_steps \(5\) must be below steps \(5\)"):
        validate(ScheduleConfig, {"steps": 5, "warmup_steps": 5}, where="here")


def test_biases_and_norms_are_not_decayed():
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    decayed, plain = OptimizerConfig(weight_decay=0.1).build(net).param_groups
    assert [p.ndim for p in decayed["params"]] == [2]
    assert decayed["weight_decay"] == 0.1
    assert all(p.ndim == 1 for p in plain["params"])
    assert plain["weight_decay"] == 0
