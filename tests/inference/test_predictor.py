import numpy as np
import pytest

from medssl.errors import RejectedFileError
from medssl.inference.predictor import Predictor
from medssl.io.geometry import reorient
from medssl.io.volume import Volume
from tests.finetuned import affine, finetuned, phantom


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(finetuned() / "pretrained")


def as_volume(array, matrix):
    return Volume(array_IJK=array, affine_ras=matrix, modality="MR")


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_the_mask_is_right_and_lies_on_the_input_grid(predictor):
    image, label = phantom(seed=99)
    mask = predictor.predict(as_volume(image, affine()))
    assert mask.dtype == np.uint8
    assert mask.shape == image.shape
    assert dice(mask > 0, label > 0) > 0.85


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SLA", "IAR"])
def test_turning_the_axes_turns_the_mask(predictor, axes):
    image, _ = phantom(seed=99)
    mask = predictor.predict(as_volume(image, affine()))
    turned, matrix = reorient(image, affine(), axes)
    expected, _ = reorient(mask, affine(), axes)
    assert np.array_equal(
        predictor.predict(as_volume(np.ascontiguousarray(turned), matrix)), expected
    )


def test_an_odd_oblique_volume_of_another_spacing_is_segmented_where_it_is(predictor):
    image, label = phantom(seed=99, shape=(25, 23, 13))
    angle = np.radians(12)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    mask = predictor.predict(as_volume(image, turn @ affine(spacing_mm=(0.9, 1.1, 1.2))))
    assert mask.shape == image.shape
    assert dice(mask > 0, label > 0) > 0.8


def test_a_volume_smaller_than_a_patch_and_one_of_unsigned_voxels_are_fine(predictor):
    image, _ = phantom(seed=99, shape=(11, 12, 9))
    small = predictor.predict(as_volume(np.clip(image, 0, None).astype(np.uint16), affine()))
    assert small.shape == (11, 12, 9)


def test_what_was_prepared_before_gives_the_same_mask(predictor, monkeypatch):
    volume = as_volume(phantom(seed=99)[0], affine(spacing_mm=(0.9, 1.1, 1.2)))
    expected = predictor.predict(volume)
    monkeypatch.setattr(predictor, "_slabs", None)
    seen_1IJK = predictor.see(volume)
    monkeypatch.setattr(predictor, "_prepared", None)
    assert np.array_equal(predictor.segment(volume, seen_1IJK).painted_IJK, expected)


def test_a_volume_without_contrast_is_refused(predictor):
    with pytest.raises(RejectedFileError, match="same value"):
        predictor.predict(as_volume(np.full((9, 9, 9), 7, np.int16), affine()))
