import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric
from monai.networks.utils import one_hot

from medssl.evaluation.metrics import dice_per_class


def slow_dice(predicted, reference, classes):
    found = []
    for label in range(1, classes):
        p = {tuple(place) for place in np.argwhere(predicted == label)}
        r = {tuple(place) for place in np.argwhere(reference == label)}
        found.append(2 * len(p & r) / (len(p) + len(r)) if r else float("nan"))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_dice_equals_its_slow_twin(seed):
    rng = np.random.default_rng(seed)
    predicted = rng.integers(0, 4, (5, 6, 7)).astype(np.uint8)
    reference = rng.integers(0, 3, (5, 6, 7)).astype(np.int16)
    found = dice_per_class(predicted, reference, 4)
    assert np.allclose(found, slow_dice(predicted, reference, 4), atol=1e-12, equal_nan=True)
    assert np.isnan(found[2])


def test_a_class_nobody_predicted_has_dice_0_and_one_the_reference_lacks_has_none():
    reference = np.zeros((3, 3, 3), np.uint8)
    reference[0] = 1
    predicted = np.zeros_like(reference)
    assert dice_per_class(predicted, reference, 2).tolist() == [0.0]
    assert np.isnan(dice_per_class(reference, predicted, 2)).all()
    assert np.isnan(dice_per_class(predicted, predicted, 2)).all()


def test_dice_is_that_of_monai():
    predicted, reference = np.random.default_rng(0).integers(0, 4, (2, 5, 6, 7))
    pair = [one_hot(torch.from_numpy(m)[None, None], 4) for m in (predicted, reference)]
    monai = DiceMetric(include_background=False, reduction="none")(*pair)[0]
    assert dice_per_class(predicted, reference, 4) == pytest.approx(monai.numpy())
