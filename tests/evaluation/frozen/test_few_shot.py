import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from medssl.evaluation.frozen.few_shot import (
    balanced_accuracy,
    draw_shots,
    logistic,
    nearest_mean,
)
from medssl.evaluation.intervals import Resampling

QUICK = Resampling(resamples=400, confidence=0.9)


def rng():
    return np.random.default_rng(0)


def test_shots_are_of_the_class_and_of_different_patients():
    labels = np.arange(40) % 2
    patients = [f"p{n % 2}{n // 8}" for n in range(40)]  # five of each class, four rows each
    drawn = draw_shots(labels, patients, 4, 2, 30, rng())
    assert drawn.shape == (30, 8)
    for row in drawn:
        assert labels[row].tolist() == [0] * 4 + [1] * 4
        assert len({patients[n] for n in row}) == 8
    assert len({tuple(row) for row in drawn.tolist()}) == 30


def test_a_class_of_too_few_patients_has_no_shots():
    labels, patients = [0, 0, 1, 1], ["a", "b", "c", "c"]
    assert draw_shots(labels, patients, 1, 2, 3, rng()) is not None
    assert draw_shots(labels, patients, 2, 2, 3, rng()) is None


def slow_nearest_mean(shots, asked, classes):
    centre = np.mean(shots, axis=0)

    def unit(row):
        return (row - centre) / np.linalg.norm(row - centre)

    per_class = len(shots) // classes
    means = [
        np.mean([unit(row) for row in shots[c * per_class : (c + 1) * per_class]], axis=0)
        for c in range(classes)
    ]
    return [int(np.argmin([np.linalg.norm(unit(row) - mean) for mean in means])) for row in asked]


def test_the_nearest_mean_is_as_defined():
    generator = torch.Generator().manual_seed(0)
    shots = torch.randn(4, 6, 5, generator=generator, dtype=torch.float64)
    asked = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    found = nearest_mean(shots, asked, 3)
    for draw in range(4):
        assert found[draw].tolist() == slow_nearest_mean(shots[draw].numpy(), asked.numpy(), 3)


def test_logistic_regressions_of_all_draws_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(1)
    shots = torch.randn(5, 9, 4, generator=generator, dtype=torch.float64)
    asked = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    found, labels = logistic(shots, asked, 3, 0.1), np.repeat([0, 1, 2], 3)
    for draw in range(5):
        scale = StandardScaler().fit(shots[draw])
        theirs = LogisticRegression(C=1 / (0.1 * 9), tol=1e-10, max_iter=10_000)
        theirs.fit(scale.transform(shots[draw]), labels)
        assert found[draw].tolist() == theirs.predict(scale.transform(asked)).tolist()


def test_balanced_accuracy_is_that_of_scikit_learn_averaged_over_draws():
    labels = [0, 0, 0, 0, 1, 2, 2]
    guesses = rng().integers(3, size=(6, 7))
    found = balanced_accuracy((guesses == labels).astype(float), labels, list("abcdefg"), QUICK)
    expected = np.mean([balanced_accuracy_score(labels, guess) for guess in guesses])
    assert found.mean == pytest.approx(expected)
    assert found.low <= found.mean <= found.high


def slow_interval(right, labels, patients, resamples, confidence, seed):
    """Every resample by loops over the table that it stands for."""
    names, generator = sorted(set(patients)), np.random.default_rng(seed)
    draws = generator.multinomial(len(right), [1 / len(right)] * len(right), size=resamples)
    people = generator.multinomial(len(names), [1 / len(names)] * len(names), size=resamples)
    values = []
    for of_draw, of_person in zip(draws, people, strict=True):
        hits, rows = {}, {}
        for r, times in enumerate(of_draw):
            for m, label in enumerate(labels):
                weight = times * of_person[names.index(patients[m])]
                hits[label] = hits.get(label, 0) + weight * right[r][m]
                rows[label] = rows.get(label, 0) + weight
        values.append(np.mean([hits[c] / rows[c] for c in rows if rows[c]]))
    return np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])


def test_the_interval_resamples_draws_and_patients():
    labels, patients = [0, 1, 1, 0, 1], ["a", "b", "b", "c", "d"]
    right = (rng().random((4, 5)) < 0.6).astype(float)
    found = balanced_accuracy(
        right, labels, patients, Resampling(resamples=150, confidence=0.9, seed=3)
    )
    expected = slow_interval(right.tolist(), labels, patients, 150, 0.9, 3)
    np.testing.assert_allclose([found.low, found.high], expected)


def test_patients_that_differ_widen_the_interval_though_draws_agree():
    labels, patients = [0, 1] * 6, [f"p{n}" for n in range(12)]
    same = np.tile([1, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 1], (30, 1)).astype(float)
    found = balanced_accuracy(same, labels, patients, QUICK)
    assert found.high - found.low > 0.2


def test_one_patient_has_no_interval():
    found = balanced_accuracy(np.ones((3, 2)), [0, 1], ["a", "a"], QUICK)
    assert found.mean == 1
    assert np.isnan(found.low)
