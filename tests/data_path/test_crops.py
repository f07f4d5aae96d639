"""Where crops are cut; the general laws are in tests/properties/test_crops.py."""

import numpy as np

from medssl.data.crops import base_grid_starts, position_labels, random_crop_starts


def test_the_last_axis_of_the_grid_varies_fastest():
    starts_K3 = base_grid_starts((2, 3, 1), (10, 20, 30))
    assert starts_K3.tolist() == [
        [0, 0, 0], [0, 20, 0], [0, 40, 0], [10, 0, 0], [10, 20, 0], [10, 40, 0],
    ]  # fmt: skip


def test_the_centre_takes_every_position_inside_equally_often():
    starts_N3 = random_crop_starts(np.random.default_rng(0), 20_000, (3, 2, 1), (4, 4, 4))
    assert set(starts_N3[:, 2]) == {0}, "one cell leaves no freedom"
    for axis, positions in ((0, 9), (1, 5)):
        counts = np.bincount(starts_N3[:, axis])
        assert len(counts) == positions
        expected = 20_000 / positions
        assert np.abs(counts - expected).max() < 5 * expected**0.5


def test_a_crop_between_four_cells_belongs_to_each_by_its_share():
    starts_K3 = base_grid_starts((3, 3, 1), (4, 4, 4))
    labels_NK = position_labels(np.array([[1, 6, 0]]), starts_K3, (4, 4, 4))
    assert labels_NK.reshape(3, 3).tolist() == [
        [0, 3 / 8, 3 / 8],
        [0, 1 / 8, 1 / 8],
        [0, 0, 0],
    ]


def test_a_crop_that_meets_a_base_crop_is_one_hot():
    starts_K3 = base_grid_starts((2, 2, 2), (5, 6, 7))
    assert (position_labels(starts_K3, starts_K3, (5, 6, 7)) == np.eye(8)).all()
