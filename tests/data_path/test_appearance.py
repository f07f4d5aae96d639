"""Grey values change as drawn, by the order that is documented, and never in place."""

import math

import numpy as np
import pytest

from medssl.data.appearance import Appearance, AppearanceConfig, apply_appearance, draw_appearance
from medssl.data.augment import never

STILL = {"brightness": 0, "contrast": 1, "gamma": 1, "noise": 0, "blur_voxels": 0, "noise_seed": 0}


def view():
    return np.random.default_rng(0).random((6, 5, 4), dtype=np.float32)


def test_nothing_drawn_changes_nothing():
    drawn = draw_appearance(never(AppearanceConfig), np.random.default_rng(0))
    assert np.array_equal(apply_appearance(view(), drawn), view())


def test_gamma_contrast_and_brightness_are_what_their_definition_says():
    changed = apply_appearance(
        view(), Appearance(**{**STILL, "gamma": 1.5, "contrast": 0.8, "brightness": 0.1})
    )
    powered = [float(v) ** 1.5 for v in view().ravel()]
    mean = math.fsum(powered) / len(powered)
    expected = [(v - mean) * 0.8 + mean + 0.1 for v in powered]
    np.testing.assert_allclose(changed.ravel(), expected, atol=1e-6)


def test_noise_has_the_drawn_spread_and_comes_from_its_own_seed():
    drawn = Appearance(**{**STILL, "noise": 0.05, "noise_seed": 3})
    big = np.zeros((40, 40, 40), np.float32)
    noisy = apply_appearance(big, drawn)
    assert noisy.std() == pytest.approx(0.05, rel=0.02)
    assert np.array_equal(noisy, apply_appearance(big, drawn))
    assert not big.any()


def test_blur_lowers_the_spread_and_keeps_the_mean():
    blurred = apply_appearance(view(), Appearance(**{**STILL, "blur_voxels": 1.0}))
    assert blurred.std() < 0.6 * view().std()
    assert blurred.mean() == pytest.approx(view().mean(), abs=0.02)


def test_draws_stay_within_their_ranges_and_happen_as_often_as_asked():
    rng = np.random.default_rng(0)
    config = AppearanceConfig(brightness_probability=0.3, brightness=0.2)
    drawn = [draw_appearance(config, rng) for _ in range(2000)]
    bright = np.array([d.brightness for d in drawn])
    assert np.abs(bright).max() <= 0.2
    assert (bright != 0).mean() == pytest.approx(0.3, abs=0.04)
    assert all(0.7 <= d.contrast <= 1.3 and 0 <= d.noise <= 0.05 for d in drawn)
