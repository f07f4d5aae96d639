"""The two teeth of the rate."""

import math

import pytest
from torch import nn

from medssl.training.schedule import ScheduleConfig
from medssl.training.strategies.sawtooth import Sawtooth


def rates(steps, **options):
    schedule = ScheduleConfig(steps=steps, warmup_steps=0)
    sawtooth = Sawtooth.Config(**options).build()
    return [sawtooth.factor(step, schedule) for step in range(steps)]


def test_the_rate_rises_and_falls_twice():
    """OpenMind's thousand epochs: 25 up, 25 down, 50 up, 900 down."""
    found = rates(1000)
    rise = [(step + 1) / 26 for step in range(25)]
    fall = [0.5 * (1 + math.cos(math.pi * step / 25)) for step in range(25)]
    assert found[:50] == pytest.approx(rise + fall)
    rise = [(step + 1) / 51 for step in range(50)]
    fall = [0.5 * (1 + math.cos(math.pi * step / 900)) for step in range(900)]
    assert found[50:] == pytest.approx(rise + fall)


def test_the_first_tooth_can_be_lower():
    low, high = rates(100, decoder_share=0.2, decoder_rate=0.1), rates(100, decoder_share=0.2)
    assert low[:20] == pytest.approx([0.1 * rate for rate in high[:20]])
    assert low[20:] == high[20:]


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_a_short_training_still_ends_with_every_weight(steps):
    sawtooth, encoder = Sawtooth.Config().build(), nn.Linear(1, 1)
    sawtooth.before_step(encoder, steps - 1, steps)
    assert encoder.weight.requires_grad
    assert all(0 < rate <= 1 for rate in rates(steps))


def test_the_encoder_is_frozen_in_the_first_tooth_only():
    sawtooth, encoder = Sawtooth.Config(decoder_share=0.25).build(), nn.Linear(1, 1)
    trained = []
    for step in range(8):
        sawtooth.before_step(encoder, step, 8)
        trained.append(encoder.weight.requires_grad)
        assert encoder.training == encoder.weight.requires_grad
    assert trained == [False] * 2 + [True] * 6
