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


def pairs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    apart = torch.rand(5, 5, generator=generator) > 0.4
    return features(5, 3), features(5, 3, seed=1), apart & ~torch.eye(5, dtype=torch.bool)


def test_terms_of_the_contrastive_gap_by_their_definition():
    image, text, apart = pairs()
    chosen = [(i, j) for i in range(5) for j in range(5) if apart[i, j]]
    terms = measures.contrastive_gap(image, text, apart)
    images, texts = (log_mean([distance(z[i], z[j]) for i, j in chosen]) for z in (image, text))
    expected = {
        "alignment": sum(distance(x, y) for x, y in zip(image, text, strict=True)) / 5,
        "uniformity": (images + texts) / 2,
        "cross_uniformity": log_mean([distance(image[i], text[j]) for i, j in chosen]),
    }
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(expected)
    scores = measures.gap_scores(image, text, apart)
    assert float(scores["image_uniformity"]) == pytest.approx(images)
    assert float(scores["text_uniformity"]) == pytest.approx(texts)
    centres = [sum(z / z.norm() for z in side) / 5 for side in (image, text)]
    assert float(scores["gap"]) == pytest.approx(float((centres[0] - centres[1]).norm()))


def test_alignment_and_uniformity_are_functions_of_the_cosine():
    image, text, apart = pairs()
    cosine = torch.nn.functional.cosine_similarity(image[:, None], text, dim=2)
    terms = measures.contrastive_gap(image, text, apart)
    torch.testing.assert_close(terms["alignment"], (2 - 2 * cosine.diagonal()).mean())
    expected = (4 * (cosine - 1))[apart].exp().mean().log()
    torch.testing.assert_close(terms["cross_uniformity"], expected)


def test_with_all_other_rows_apart_it_is_the_uniformity_of_one_kind():
    image, _, _ = pairs()
    apart = ~torch.eye(5, dtype=torch.bool)
    found = measures.uniformity_of_pairs(image, image, apart)
    torch.testing.assert_close(found, measures.uniformity(image))


def test_gradients_of_the_gap_terms_also_at_duplicates():
    image, text, apart = pairs()
    image[1] = image[0]
    text[2] = image[2]

    def total(a, b):
        return sum(measures.contrastive_gap(a, b, apart).values())

    leaves = (image.requires_grad_(), text.requires_grad_())
    assert torch.autograd.gradcheck(total, leaves)
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(total(*leaves), leaves))


def test_without_pairs_that_should_be_apart_uniformity_is_zero_with_a_graph():
    image, text, _ = pairs()
    nothing = torch.zeros(5, 5, dtype=torch.bool)
    loss = measures.uniformity_of_pairs(image.requires_grad_(), text, nothing)
    assert loss == 0
    assert (torch.autograd.grad(loss, image)[0] == 0).all()


def test_collapse_and_two_distant_corners():
    apart = ~torch.eye(4, dtype=torch.bool)
    same = torch.ones(4, 3)
    assert all(v.abs() < 1e-6 for v in measures.gap_scores(same, same, apart).values())
    scores = measures.gap_scores(same, -same, apart)
    assert float(scores["gap"]) == pytest.approx(2)
    assert float(scores["alignment"]) == pytest.approx(4)
    assert float(scores["cross_uniformity"]) == pytest.approx(-8)
