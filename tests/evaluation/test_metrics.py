import numpy as np
import pytest

from medssl.evaluation.metrics import Estimate, dice_per_class, mean_over_patients


def slow_dice(predicted, reference, classes):
    found = []
    for label in range(1, classes):
        p = {tuple(place) for place in np.argwhere(predicted == label)}
        r = {tuple(place) for place in np.argwhere(reference == label)}
        found.append(2 * len(p & r) / (len(p) + len(r)) if r else float("nan"))
    return found


def slow_interval(values, patients, *, resamples, confidence, seed):
    """Draw patients with replacement, one resample after the other."""
    means = [
        np.mean([v for v, p in zip(values, patients, strict=True) if p == key])
        for key in sorted(set(patients))
    ]
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        chosen = rng.integers(0, len(means), len(means))
        draws.append(sum(means[index] for index in chosen) / len(means))
    tail = 50 * (1 - confidence)
    return np.mean(means), *np.percentile(draws, [tail, 100 - tail])


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


def test_the_interval_equals_its_slow_twin_up_to_the_draws():
    rng = np.random.default_rng(3)
    values, patients = rng.normal(0.8, 0.1, 20).tolist(), [f"p{n % 13}" for n in range(20)]
    found = mean_over_patients(values, patients, resamples=20000, confidence=0.9, seed=1)
    mean, low, high = slow_interval(values, patients, resamples=20000, confidence=0.9, seed=2)
    assert found.patients == 13
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-3)


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    keys = [str(n) for n in range(25)]
    held = [
        mean_over_patients(rng.normal(0.3, 1, 25).tolist(), keys, resamples=300, seed=n).includes(
            0.3
        )
        for n in range(150)
    ]
    assert 0.86 <= np.mean(held) <= 0.99


def test_a_patient_counts_once_and_nan_does_not_count():
    found = mean_over_patients([0.0, 1.0, 1.0, 1.0, float("nan")], ["a", "b", "b", "b", "c"])
    assert found.mean == 0.5
    assert found.patients == 2


def test_a_seed_gives_the_same_interval_and_equal_values_a_point():
    values, keys = [0.1, 0.5, 0.9, 0.7], list("abcd")
    assert mean_over_patients(values, keys, seed=5) == mean_over_patients(values, keys, seed=5)
    equal = mean_over_patients([0.5] * 4, keys)
    assert (equal.low, equal.mean, equal.high) == (0.5, 0.5, 0.5)


def test_one_patient_has_no_interval_and_none_has_no_mean():
    one = mean_over_patients([0.5, 0.7], ["a", "a"])
    assert one.mean == pytest.approx(0.6)
    assert np.isnan(one.low)
    assert one.includes(0)
    assert np.isnan(mean_over_patients([float("nan")], ["a"]).mean)


def test_an_interval_includes_its_ends():
    found = Estimate(mean=0.1, low=0.0, high=0.2, patients=3)
    assert found.includes(0.0)
    assert not found.includes(-0.01)
