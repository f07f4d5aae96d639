"""Boxes stay inside the crop and under their share; what lies outside them is untouched."""

import numpy as np
import pytest
from pydantic import ValidationError

from medssl.data.cut_out import CutOutConfig, covered, draw_boxes, filled_with_noise

SHAPE = (24, 20, 16)


@pytest.mark.parametrize("seed", range(5))
def test_boxes_have_the_sizes_asked_for_and_stay_under_their_share(seed):
    config = CutOutConfig(most=0.3, edge=(0.1, 0.25))
    boxes = draw_boxes(config, np.random.default_rng(seed), SHAPE)
    voxels = 0
    for box in boxes:
        for axis, length in zip(box, SHAPE, strict=True):
            assert 0 <= axis.start < axis.stop <= length
            assert round(0.1 * length) <= axis.stop - axis.start <= round(0.25 * length)
        voxels += int(np.prod([axis.stop - axis.start for axis in box]))
    largest = np.prod([round(0.25 * n) for n in SHAPE])
    assert 0.3 * np.prod(SHAPE) - largest < voxels <= 0.3 * np.prod(SHAPE)
    assert covered(boxes, SHAPE).sum() <= voxels


def test_nothing_is_cut_out_of_a_share_of_nothing():
    assert draw_boxes(CutOutConfig(most=0), np.random.default_rng(0), SHAPE) == ()


def test_noise_fills_the_boxes_from_0_to_1_and_nothing_else():
    crop = np.full(SHAPE, 7, np.float32)
    boxes = draw_boxes(CutOutConfig(), np.random.default_rng(0), SHAPE)
    filled = filled_with_noise(crop, boxes, 3)
    inside = covered(boxes, SHAPE)
    assert (filled[~inside] == 7).all()
    assert (filled[inside] >= 0).all()
    assert (filled[inside] <= 1).all()
    assert filled[inside].std() > 0.1
    assert (crop == 7).all()
    assert np.array_equal(filled, filled_with_noise(crop, boxes, 3))
    assert not np.array_equal(filled, filled_with_noise(crop, boxes, 4))


def test_a_box_of_one_voxel_becomes_0():
    box = (slice(0, 1),) * 3
    assert filled_with_noise(np.ones((2, 2, 2), np.float32), (box,), 0)[0, 0, 0] == 0


def test_edges_must_rise():
    with pytest.raises(ValidationError, match="edge must rise"):
        CutOutConfig(edge=(0.5, 0.1))
