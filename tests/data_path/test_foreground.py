"""Body and air."""

import numpy as np

from medssl.data.foreground import background_value, body_box, body_threshold


def test_padding_is_air_for_hounsfield_units_and_never_darker_than_the_volume():
    assert background_value(-2048, "hu") == -1000
    assert background_value(-175, "hu") == -175
    assert background_value(-3, "arbitrary") == -3


def test_the_body_threshold_is_fixed_for_hounsfield_units_only():
    assert body_threshold(-1000, 900, "hu") == -500
    assert body_threshold(10, 210, "arbitrary") == 30


def test_the_box_holds_the_body_and_its_margin():
    array_IJK = np.full((40, 30, 20), -1000, np.int16)
    array_IJK[10:20, 5:28, 8:9] = 40
    assert body_box(array_IJK, -500, (2, 4, 1)) == (slice(8, 22), slice(1, 30), slice(7, 10))


def test_single_noisy_voxels_do_not_widen_the_box():
    array_IJK = np.zeros((60, 60, 60), np.uint8)
    array_IJK[20:40, 20:40, 20:40] = 100
    array_IJK[2, 50, 50] = 255
    assert body_box(array_IJK, 50, (0, 0, 0)) == (slice(20, 40),) * 3


def test_nothing_but_air_keeps_the_whole_volume():
    air_IJK = np.full((4, 5, 6), -1000, np.int16)
    assert body_box(air_IJK, -500, (1, 1, 1)) == (slice(0, 4), slice(0, 5), slice(0, 6))
