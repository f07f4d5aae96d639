"""Each artefact against its definition written out in loops."""

import cmath
import itertools
import math

import numpy as np
import pytest

from medssl.data.augment import never
from medssl.data.cut_out import covered
from medssl.data.mr_artefacts import (
    ArtefactConfig,
    apply_artefacts,
    draw_artefacts,
    rician,
    ringing,
    shading,
)

SHAPE = (6, 5, 4)


@pytest.fixture
def view():
    return np.random.default_rng(0).random(SHAPE, dtype=np.float32)


def test_shading_is_e_to_the_sum_of_legendre_polynomials():
    coefficients = np.random.default_rng(1).normal(0, 0.3, (3, 3, 3))
    found = shading(SHAPE, coefficients)
    legendre = [lambda x: 1, lambda x: x, lambda x: (3 * x * x - 1) / 2]
    for index in np.ndindex(SHAPE):
        x, y, z = (-1 + 2 * i / (n - 1) for i, n in zip(index, SHAPE, strict=True))
        total = sum(
            coefficients[a, b, c] * legendre[a](x) * legendre[b](y) * legendre[c](z)
            for a, b, c in itertools.product(range(3), repeat=3)
        )
        assert found[index] == pytest.approx(math.exp(total), rel=1e-5)


def test_ringing_leaves_the_frequencies_inside_a_radius(view):
    found = ringing(view, 0.8)
    spectrum = {}
    for k in np.ndindex(SHAPE):
        signed = [f if f <= n // 2 else f - n for f, n in zip(k, SHAPE, strict=True)]
        radius = math.sqrt(sum((2 * f / n) ** 2 for f, n in zip(signed, SHAPE, strict=True)))
        spectrum[k] = 0 if radius > 0.8 else sum(
            view[x] * cmath.exp(-2j * math.pi * phase(k, x)) for x in np.ndindex(SHAPE)
        )  # fmt: skip
    for x in [(0, 0, 0), (5, 4, 3), (2, 1, 2), (3, 3, 0)]:
        value = sum(s * cmath.exp(2j * math.pi * phase(k, x)) for k, s in spectrum.items())
        assert found[x] == pytest.approx(value.real / view.size, abs=1e-5)


def phase(k, x):
    return sum(f * i / n for f, i, n in zip(k, x, SHAPE, strict=True))


def test_nothing_is_lost_when_all_frequencies_are_kept(view):
    np.testing.assert_allclose(ringing(view, math.sqrt(3)), view, atol=1e-6)


def test_noise_of_magnitudes_is_rician():
    noisy = rician(np.zeros((40, 40, 40), np.float32), 0.1, 3)
    assert noisy.min() >= 0
    assert noisy.mean() == pytest.approx(0.1 * math.sqrt(math.pi / 2), rel=0.02)  # Rayleigh
    bright = rician(np.full((40, 40, 40), 3, np.float32), 0.1, 3)
    assert bright.mean() == pytest.approx(3 + 0.01 / 6, rel=1e-3)
    assert bright.std() == pytest.approx(0.1, rel=0.02)


def test_a_view_is_spoiled_as_drawn_and_again_the_same(view):
    config = ArtefactConfig()
    drawn = [draw_artefacts(config, np.random.default_rng(n), SHAPE) for n in range(60)]
    assert any(d.bias_PPP is None for d in drawn)
    assert any(d.bias_PPP is not None for d in drawn)
    before = view.copy()
    for one in drawn:
        spoiled = apply_artefacts(view, one)
        assert spoiled.dtype == np.float32
        assert np.array_equal(spoiled, apply_artefacts(view, one))
        assert (spoiled[covered(one.dropped, SHAPE)] == 0).all()
        assert len(one.dropped) <= 10
    assert np.array_equal(view, before)
    still = draw_artefacts(never(ArtefactConfig), np.random.default_rng(0), SHAPE)
    assert np.array_equal(apply_artefacts(view, still), view)


def test_shading_as_drawn_by_default_stays_plausible():
    config, extremes = ArtefactConfig(bias_probability=1), []
    for seed in range(200):
        drawn = draw_artefacts(config, np.random.default_rng(seed), SHAPE)
        field = shading((8, 8, 8), drawn.bias_PPP)
        extremes.append(field.max() / field.min())
    assert 1.2 < np.median(extremes) < 4
