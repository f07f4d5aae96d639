from dataclasses import replace

import numpy as np
import pytest

from medssl.inference.doubts import doubts
from medssl.io.volume import Volume
from medssl.training.reference import fit_reference
from medssl.training.task_model import read_description
from tests.finetuned import finetuned

REFERENCE = fit_reference(np.random.default_rng(0).normal(size=(30, 3)))


@pytest.fixture(scope="module")
def about():
    return read_description(finetuned() / "pretrained")


def volume(shape=(16, 16, 16), **changes):
    array = np.zeros(shape, np.int16)
    return Volume(**{"array_IJK": array, "affine_ras": np.eye(4), "modality": "MR"} | changes)


def test_a_usual_scan_raises_none(about):
    assert list(doubts(volume(), about, REFERENCE, 1.0)) == []


def test_a_scan_beyond_the_limit_is_unlike_the_others(about):
    assert list(doubts(volume(), about, REFERENCE, REFERENCE.limit)) == []
    (said,) = doubts(volume(), about, REFERENCE, 100.0)
    assert "unlike the scans that the model was trained on: distance 100" in said
    assert f"{REFERENCE.limit:.3g}" in said


def test_a_model_that_does_not_tell_says_so(about):
    (said,) = doubts(volume(), about, None, None)
    assert "cannot be told" in said


def test_a_scan_smaller_than_a_window_is_said_to_be_padded(about):
    (said,) = doubts(volume((16, 8, 16)), about, REFERENCE, 1.0)
    assert said.startswith("It is 8 x 16 x 16 mm, less than the 16 x 16 x 16 mm that the network")


def test_other_modalities_strange_numbers_and_resampled_slices_are_said(about):
    ct = about.model_copy(update={"modality": "CT"})
    (other,) = doubts(volume(), ct, REFERENCE, 1.0)
    (strange,) = doubts(volume(modality="CT", intensity="unknown"), ct, REFERENCE, 1.0)
    tilted = replace(volume(modality="CT", intensity="hu"), regularized=("tilt",))
    (resampled,) = doubts(tilted, ct, REFERENCE, 1.0)
    assert "trained on CT" in other
    assert "Hounsfield" in strange
    assert "(tilt)" in resampled
