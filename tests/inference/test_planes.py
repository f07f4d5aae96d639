import numpy as np
import pytest

from medssl.data.preprocessing import PreprocessingConfig
from medssl.inference.planes import PLANES, planes_of, range_text, shown_range

AXIAL, CORONAL, SAGITTAL = PLANES
SIDES = {"R": (0, -1), "L": (0, 0), "A": (1, -1), "P": (1, 0), "S": (2, -1), "I": (2, 0)}


@pytest.mark.parametrize("plane", PLANES, ids=lambda plane: plane.name)
def test_every_side_is_where_its_letter_is(plane):
    places = [(slice(None), 0), (slice(None), -1), (0, slice(None)), (-1, slice(None))]
    for letter, place in zip(plane.letters, places, strict=True):
        axis, end = SIDES[letter]
        array = np.zeros((5, 6, 7))
        np.moveaxis(array, axis, 0)[end] = 1
        assert plane.cut(array, 2)[place].all(), letter
        assert plane.cut(array, 2).sum() == plane.cut(array, 2)[place].size


def test_height_and_width_are_those_of_the_cut():
    sizes = (5, 6, 7)
    for plane in PLANES:
        assert plane.cut(np.zeros(sizes), 0).shape == plane.size(sizes)


def test_a_single_slice_has_one_plane():
    assert planes_of((20, 30, 1)) == [AXIAL]
    assert planes_of((1, 30, 20)) == [SAGITTAL]
    assert planes_of((20, 30, 9)) == list(PLANES)


def test_ct_is_shown_in_the_window_that_the_network_sees():
    config = {"intensity": {"name": "ct", "window_hu": (-160, 240)}}
    specs = PreprocessingConfig.model_validate(config).specs()
    assert shown_range(specs, np.zeros((2, 2, 2))) == (-160, 240)
    assert range_text(specs, "CT") == "Black to white: -160 to 240 HU."


def test_mr_is_shown_between_percentiles_of_the_scan():
    specs = PreprocessingConfig.model_validate({"intensity": {"name": "mr"}}).specs()
    image = np.arange(1000.0)
    assert shown_range(specs, image) == tuple(np.percentile(image, (0.5, 99.5)))
    low, high = shown_range(specs, np.zeros(10))
    assert high > low
    assert "percentile" in range_text(specs, "MR")
