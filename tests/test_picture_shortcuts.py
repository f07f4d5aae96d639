"""Shortcuts of pictures: each by its definition, and one that is planted is found."""

import numpy as np
import pytest

from medssl.labelled.read import read_labelled
from medssl.labelled.splits import LabelledSplitConfig, split_cases
from pipelines.covid_ct_table import main as write_table
from pipelines.picture_shortcuts import border, shortcuts, size, thumbnail
from tests.covid_ct import challenge


def test_a_thumbnail_is_the_mean_of_its_areas():
    picture_IJ = np.random.default_rng(0).random((16, 24))
    by_hand = [
        np.mean([picture_IJ[2 * a + i, 3 * b + j] for i in range(2) for j in range(3)])
        for a in range(8)
        for b in range(8)
    ]
    np.testing.assert_allclose(thumbnail(picture_IJ), by_hand)


def test_a_border_is_four_means_and_a_spread():
    found = border(np.array([[1.0, 2, 3], [4, 9, 6], [7, 8, 9]]))
    np.testing.assert_allclose(found[:4], [2, 8, 4, 6])
    assert found[4] == pytest.approx(np.std([1, 2, 3, 7, 8, 9, 1, 4, 7, 3, 6, 9]))


def test_size_knows_the_shape_alone():
    np.testing.assert_allclose(size(np.zeros((20, 30))), [np.log(20), np.log(30)])


@pytest.mark.parametrize(("bright", "found_out"), [(60, True), (0, False)])
def test_a_planted_border_is_found_out(tmp_path, bright, found_out):
    challenge(tmp_path / "data", train=12, val=8, bright=bright)
    write_table([str(tmp_path / "data"), str(tmp_path / "table.csv")])
    labelled = read_labelled(tmp_path / "table.csv")
    parts = split_cases(labelled.cases, LabelledSplitConfig(val=0.25))
    of = {row["shortcut"]: row for row in shortcuts(labelled, parts, "covid")}
    assert (of["border"]["auroc"] == 1.0) is found_out
    assert (of["border"]["val_auroc"] == 1.0) is found_out
    assert of["size"]["auroc"] == 0.5  # all are of one size
    for row in of.values():
        assert row["low"] <= row["auroc"] <= row["high"]
