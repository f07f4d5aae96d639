import math

import numpy as np
import pytest

from medssl.curation.set_metrics import cover_radius, effective_rank, nearest_kept, vendi_score


def slow_vendi(embeddings):
    """The N x N matrix of cosines, as published."""
    n = len(embeddings)
    kernel = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            lengths = np.linalg.norm(embeddings[i]) * np.linalg.norm(embeddings[j])
            kernel[i, j] = embeddings[i] @ embeddings[j] / lengths / n
    values = [v for v in np.linalg.eigvalsh(kernel) if v > 1e-15]
    return math.exp(-sum(v * math.log(v) for v in values))


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (1, 3), (7, 7)])
def test_the_dual_form_is_the_published_score(shape):
    embeddings = np.random.default_rng(0).normal(size=shape)
    assert vendi_score(embeddings) == pytest.approx(slow_vendi(embeddings), rel=1e-9)


def test_vendi_counts_what_differs():
    assert vendi_score(np.eye(6)) == pytest.approx(6)
    assert vendi_score(np.ones((6, 4))) == pytest.approx(1)
    assert vendi_score(np.repeat(np.eye(3), 5, axis=0)) == pytest.approx(3)


def test_effective_rank():
    rng = np.random.default_rng(0)
    line = rng.normal(size=(30, 1)) @ rng.normal(size=(1, 8))
    assert effective_rank(line) == pytest.approx(1)
    assert effective_rank(np.ones((4, 3))) == 0
    centred = np.concatenate([np.eye(4), -np.eye(4)])
    singular = np.linalg.svd(centred, compute_uv=False)
    shares = singular / singular.sum()
    assert effective_rank(centred) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))


def test_the_radius_is_the_farthest_from_what_is_kept():
    rng = np.random.default_rng(0)
    points, kept = rng.normal(size=(40, 3)), np.arange(40) % 7 == 0
    slow = [min(math.dist(a, b) for b in points[kept]) for a in points]
    np.testing.assert_allclose(nearest_kept(points, kept, block=9), slow, atol=1e-7)
    assert cover_radius(points, kept) == pytest.approx(max(slow))
    assert cover_radius(points, np.ones(40, bool)) == 0
