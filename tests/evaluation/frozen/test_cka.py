import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.evaluation.frozen.cka import cka_matrix


def drawn(rows, width, seed=0):
    return torch.randn(
        rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def linear_cka(x, y, **options):
    return float(cka_matrix([x, y], **options)[0, 1])


def slow_biased(x, y):
    """Kornblith et al. 2019, equations 3 and 4, with matrices H, K and L written out."""
    n = len(x)
    centring = np.eye(n) - np.ones((n, n)) / n

    def hsic(a, b):
        return np.trace(a @ centring @ b @ centring) / (n - 1) ** 2

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def slow_unbiased(x, y):
    """Song et al. 2012: sums over different indices only."""
    n = len(x)

    def hsic(a, b):
        different = [(i, j) for i in range(n) for j in range(n) if i != j]
        pairs = sum(a[i, j] * b[i, j] for i, j in different) / (n * (n - 1))
        triples = sum(
            a[i, j] * b[i, q] for i, j in different for q in range(n) if q not in (i, j)
        ) / (n * (n - 1) * (n - 2))
        quads = sum(
            a[i, j] * b[q, r] for i, j in different for q, r in different if len({i, j, q, r}) == 4
        ) / (n * (n - 1) * (n - 2) * (n - 3))
        return pairs - 2 * triples + quads

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_the_biased_value_is_as_defined():
    x, y = drawn(9, 4), drawn(9, 6, seed=1)
    assert linear_cka(x, y, debiased=False) == pytest.approx(slow_biased(x.numpy(), y.numpy()))


def test_the_debiased_value_is_as_defined():
    x, y = drawn(7, 3), drawn(7, 3) + drawn(7, 3, seed=1)
    assert linear_cka(x, y) == pytest.approx(slow_unbiased(x.numpy(), y.numpy()))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3), st.floats(-50, 50), st.booleans())
def test_turns_scales_and_shifts_change_nothing(seed, scale, shift, debiased):
    x, y = drawn(12, 5, seed), drawn(12, 4, seed + 1) + drawn(12, 5, seed)[:, :4]
    turn = torch.linalg.qr(drawn(5, 5, seed + 2)).Q
    before = linear_cka(x, y, debiased=debiased)
    after = linear_cka(scale * x @ turn + shift, y, debiased=debiased)
    assert after == pytest.approx(before, rel=1e-5, abs=1e-7)
    assert linear_cka(x, x @ turn, debiased=debiased) == pytest.approx(1)


def test_stretching_one_axis_does_change_it():
    x = drawn(30, 5)
    stretched = x * torch.tensor([30.0, 1, 1, 1, 1])
    assert linear_cka(x, stretched, debiased=False) < 0.9


def test_only_the_biased_value_takes_independent_wide_descriptions_for_alike():
    x, y = drawn(20, 500), drawn(20, 500, seed=1)
    assert linear_cka(x, y, debiased=False) > 0.9
    assert abs(linear_cka(x, y)) < 0.25


def test_a_matrix_holds_every_pair():
    described = [drawn(10, width, seed=width) for width in (2, 3, 4)]
    matrix = cka_matrix(described)
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix), 1)
    assert matrix[0, 2] == pytest.approx(linear_cka(described[0], described[2]))


@pytest.mark.parametrize("value", [1.0, 0.1])  # the mean of six 0.1 is not 0.1
@pytest.mark.parametrize("debiased", [True, False])
def test_a_description_that_does_not_vary_is_like_none(value, debiased):
    same = torch.full((6, 2), value, dtype=torch.float64)
    assert np.isnan(linear_cka(same, drawn(6, 2), debiased=debiased))


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="CKA needs 4 rows, found 3"):
        linear_cka(drawn(3, 2), drawn(3, 2))
