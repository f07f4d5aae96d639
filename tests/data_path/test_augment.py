"""Changes of a crop: what is drawn, and that applying adds nothing to it."""

import numpy as np
import pytest

from medssl.data.augment import AugmentConfig, CropChange, apply_change, draw_change

NOTHING = {"flips": (False, False, False), "quarter_turns": 0, "shift": 0.0}


@pytest.fixture
def crop():
    return np.random.default_rng(1).random((5, 5, 3), dtype=np.float32)


def slow_change(crop, change):
    """Voxel by voxel: flips, then turns from I towards J, then the shift."""
    values = crop.astype(np.float64)
    for axis in range(3):
        if change.flips[axis]:
            values = np.stack(
                [values.take(i, axis) for i in reversed(range(values.shape[axis]))], axis
            )
    for _ in range(change.quarter_turns):
        rows, columns, _ = values.shape
        turned = np.empty((columns, rows, values.shape[2]))
        for i in range(rows):
            for j in range(columns):
                turned[columns - 1 - j, i] = values[i, j]
        values = turned
    return values + change.shift


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flips", [(True, False, False), (False, True, True), (True, True, True)])
def test_changes_equal_their_definition(crop, flips, turns):
    change = CropChange(flips=flips, quarter_turns=turns, shift=-0.05)
    np.testing.assert_allclose(apply_change(crop, change), slow_change(crop, change), atol=1e-7)


def test_nothing_drawn_changes_nothing(crop):
    changed_IJK = apply_change(crop, CropChange(**NOTHING))
    assert (changed_IJK == crop).all()
    assert changed_IJK.dtype == np.float32
    assert not np.shares_memory(changed_IJK, crop)


def test_how_often_each_change_is_drawn():
    rng = np.random.default_rng(0)
    drawn = [draw_change(AugmentConfig(), rng, square=True) for _ in range(20_000)]
    shares = {
        0.2: [np.mean([change.flips[axis] for change in drawn]) for axis in range(3)]
        + [np.mean([change.quarter_turns > 0 for change in drawn])],
        0.1: [np.mean([change.shift != 0 for change in drawn])],
    }
    for expected, found in shares.items():
        np.testing.assert_allclose(found, expected, atol=0.012)
    assert {change.quarter_turns for change in drawn} == {0, 1, 2, 3}
    shifts = [change.shift for change in drawn if change.shift]
    assert -0.1 <= min(shifts) < -0.099
    assert 0.099 < max(shifts) <= 0.1


def test_a_crop_that_is_not_square_only_makes_half_turns():
    rng = np.random.default_rng(0)
    config = AugmentConfig(rotate_probability=1)
    assert {draw_change(config, rng, square=False).quarter_turns for _ in range(50)} == {2}


def test_the_generator_advances_equally_whatever_is_drawn():
    never = AugmentConfig(flip_probability=0, rotate_probability=0, shift_probability=0)
    a, b = np.random.default_rng(3), np.random.default_rng(3)
    assert draw_change(never, a, square=True) == CropChange(**NOTHING)
    draw_change(AugmentConfig(), b, square=True)
    assert a.random() == b.random()
