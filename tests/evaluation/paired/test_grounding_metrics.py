import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medssl.evaluation.paired.grounding_metrics import (
    THRESHOLDS,
    box_iou,
    contrast_to_noise,
    iou,
    mean_iou,
    pointing_game,
)

SHAPE = (4, 5)
HEAT = arrays(np.float64, SHAPE, elements=st.sampled_from([-0.2, 0.0, 0.1, 0.4, 0.9]))
MASK = arrays(np.bool_, SHAPE).filter(lambda mask: mask.any() and not mask.all())


def places():
    return [(i, j) for i in range(SHAPE[0]) for j in range(SHAPE[1])]


@given(HEAT, MASK)
def test_the_pointing_game_counts_the_highest_places(heat, mask):
    top = [place for place in places() if heat[place] == max(heat[p] for p in places())]
    hits = sum(bool(mask[place]) for place in top)
    assert pointing_game(heat, mask) == pytest.approx(hits / len(top))


@given(HEAT, MASK)
def test_contrast_to_noise_is_a_difference_of_means_over_both_spreads(heat, mask):
    sides = [[heat[p] for p in places() if mask[p] == yes] for yes in (True, False)]
    means = [sum(side) / len(side) for side in sides]
    spreads = [
        sum((value - mean) ** 2 for value in side) / len(side)
        for side, mean in zip(sides, means, strict=True)
    ]
    found = contrast_to_noise(heat, mask)
    if math.sqrt(sum(spreads)) > 1e-9:
        assert found == pytest.approx((means[0] - means[1]) / math.sqrt(sum(spreads)))
        assert contrast_to_noise(-heat, mask) == pytest.approx(-found)


def test_a_map_or_a_mask_without_two_sides_has_no_contrast():
    heat = np.arange(6.0).reshape(2, 3)
    assert math.isnan(contrast_to_noise(heat, np.zeros((2, 3), bool)))
    assert math.isnan(contrast_to_noise(np.ones((2, 3)), heat > 2))


@given(HEAT, MASK)
def test_the_mean_iou_is_over_thresholds_of_the_range(heat, mask):
    low, high = heat.min(), heat.max()
    values = []
    for threshold in THRESHOLDS:
        above = [p for p in places() if high == low or (heat[p] - low) / (high - low) >= threshold]
        wanted = [p for p in places() if mask[p]]
        values.append(len(set(above) & set(wanted)) / len(set(above) | set(wanted)))
    assert mean_iou(heat, mask) == pytest.approx(sum(values) / len(values))


def test_boxes_are_those_of_the_largest_part_and_of_the_mask():
    heat = np.zeros((8, 8))
    heat[1:4, 1:4] = 1
    heat[2, 4] = 0.6  # the part reaches to column 4
    heat[7, 7] = 1
    mask = np.zeros((8, 8), bool)
    mask[1:4, 1:3] = True
    assert box_iou(heat, mask) == pytest.approx(6 / 12)
    assert box_iou(np.zeros((8, 8)), mask) == pytest.approx(6 / 64)


def test_a_perfect_map_is_perfect_in_three_dimensions():
    mask = np.zeros((4, 5, 6), bool)
    mask[1:3, 2:4, 1:5] = True
    heat = mask.astype(np.float32)
    assert pointing_game(heat, mask) == mean_iou(heat, mask) == box_iou(heat, mask) == 1
    assert math.isnan(iou(~mask & mask, ~mask & mask))
