"""Alignment and uniformity by their definition, and what they say of known arrangements."""

import math

import pytest
import torch

from medssl.losses import alignment_uniformity as measures


def features(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def distance(x, y):
    return float(((x / x.norm() - y / y.norm()) ** 2).sum())


def log_mean(distances):
    return math.log(sum(math.exp(-2 * d) for d in distances) / len(distances))


def test_alignment_is_the_mean_squared_distance_of_pairs():
    a, b = features(2, 5, 3), features(2, 5, 3, seed=1)
    expected = [distance(a[p, n], b[p, n]) for p in range(2) for n in range(5)]
    assert float(measures.alignment(a, b)) == pytest.approx(sum(expected) / 10)


def test_uniformity_within_and_across_images_by_their_definition():
    z = features(3, 4, 5)
    within = [
        log_mean([distance(image[n], image[m]) for n in range(4) for m in range(4) if n != m])
        for image in z
    ]
    assert float(measures.uniformity(z)) == pytest.approx(sum(within) / 3)
    across = [
        distance(z[p, n], z[(p + 1) % 3, m]) for p in range(3) for n in range(4) for m in range(4)
    ]
    assert float(measures.uniformity_across(z)) == pytest.approx(log_mean(across))


def test_scores_of_rows_follow_the_mask():
    z = features(4, 3)
    positive = torch.zeros(4, 4)
    positive[0, 2], positive[3, 1] = 1, 2
    scores = measures.scores(z, positive)
    expected = (distance(z[0], z[2]) + 2 * distance(z[3], z[1])) / 3
    assert float(scores["alignment"]) == pytest.approx(expected)
    assert float(scores["uniformity"]) == pytest.approx(
        log_mean([distance(z[n], z[m]) for n in range(4) for m in range(4) if n != m])
    )


def test_collapsed_features_have_both_at_zero_and_opposite_ones_are_as_uneven_as_they_are_far():
    same = torch.ones(2, 3, 4)
    assert all(value.abs() < 1e-6 for value in measures.dense_scores(same, same).values())
    opposite = torch.stack([same[0], -same[0]])
    scores = measures.dense_scores(opposite, opposite)
    assert float(scores["dense_uniformity"]) == pytest.approx(0, abs=1e-6)
    assert float(scores["dense_uniformity_across"]) == pytest.approx(-8)


def test_one_image_has_nothing_across():
    assert set(measures.dense_scores(features(1, 3, 2), features(1, 3, 2))) == {
        "dense_alignment",
        "dense_uniformity",
    }
