import numpy as np
import pytest

from medssl.inference.predicted import Masks

NUMBERS = np.array([[[0, 1], [2, 2]]], np.uint8)


def test_classes_are_kept_as_numbers_and_handed_out_as_masks():
    masks = Masks(names=("liver", "spleen"), numbers_IJK=NUMBERS)
    assert len(masks) == 2
    assert [mask.sum() for mask in masks] == [1, 2]
    assert np.array_equal(masks.stacked_CIJK, [NUMBERS == 1, NUMBERS == 2])
    assert masks.painted_IJK is NUMBERS
    with pytest.raises(IndexError):
        masks[2]


def test_regions_overlap_and_are_painted_in_their_order():
    regions = np.zeros((2, 2, 2, 2), bool)
    regions[0], regions[1, 0] = True, True
    masks = Masks(names=("whole", "core"), regions_CIJK=regions)
    assert masks.painted_IJK[0].tolist() == [[2, 2], [2, 2]]
    assert masks.painted_IJK[1].tolist() == [[1, 1], [1, 1]]
    assert [mask.sum() for mask in masks] == [8, 4]


@pytest.mark.parametrize("kinds", [{}, {"numbers_IJK": NUMBERS, "regions_CIJK": NUMBERS > 0}])
def test_masks_are_either_numbers_or_regions(kinds):
    with pytest.raises(ValueError, match="either numbers or regions"):
        Masks(names=("a",), **kinds)
