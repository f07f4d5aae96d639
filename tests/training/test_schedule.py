"""The learning rate over steps, by its formula."""

import math

import pytest

from medssl.config.load import validate
from medssl.errors import ConfigError
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


@pytest.mark.parametrize(
    ("given", "per_step", "steps", "warmup"),
    [
        ({"samples": 1000, "warmup_samples": 100}, 10, 100, 10),
        ({"samples": 1001, "warmup_samples": 100}, 16, 63, 6),
        ({"samples": 1000}, 10, 100, 5),
        ({"samples": 1000, "warmup_steps": 7}, 10, 100, 7),
        ({"steps": 100, "warmup_samples": 30}, 4, 100, 7),
        ({"steps": 100, "warmup_steps": 3}, 4, 100, 3),
        ({"samples": 1000, "warmup_steps": 50}, 10, 100, 50),  # also where it is the default
    ],
)
def test_samples_become_steps_of_any_batch(given, per_step, steps, warmup):
    counted = ScheduleConfig(**given).in_steps(per_step)
    assert (counted.steps, counted.warmup_steps) == (steps, warmup)


def test_a_batch_of_another_size_sees_as_many_samples_at_the_same_rates():
    schedule = ScheduleConfig(samples=64_000, warmup_samples=6_400)
    small, large = schedule.in_steps(8), schedule.in_steps(64)
    assert small.steps * 8 == large.steps * 64 == 64_000
    for seen in (6_400, 16_000, 32_000, 64_000):
        assert small.factor(seen // 8) == pytest.approx(large.factor(seen // 64))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"samples": 10, "steps": 5}, "set steps or samples, not both"),
        ({"samples": 10, "steps": 1000}, "set steps or samples, not both"),
        ({"warmup_samples": 10, "warmup_steps": 5}, "set warmup_steps or warmup_samples"),
        ({"samples": 10, "warmup_samples": 10}, r"warmup_samples \(10\) must be below samples"),
    ],
)
def test_what_contradicts_itself_is_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        validate(ScheduleConfig, given, where="here")


@pytest.mark.parametrize(
    "given",
    [{}, {"samples": 4000}, {"samples": 4000, "warmup_steps": 50}, {"warmup_samples": 0}],
)
def test_what_is_written_down_is_read_back_as_the_same(given):
    schedule = ScheduleConfig(**given)
    again = ScheduleConfig.model_validate(schedule.model_dump(mode="json"))
    assert again.in_steps(4) == schedule.in_steps(4)
    assert again.model_dump() == schedule.model_dump()
