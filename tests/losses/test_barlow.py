"""Barlow Twins against loops over features, and what constant projections cost."""

import math

import pytest
import torch

from medssl.losses.barlow import EPS, barlow


def test_it_is_what_loops_over_features_give():
    first, second = torch.randn(2, 7, 4, dtype=torch.float64, generator=torch.manual_seed(0))

    def standard(z, d):
        column = [float(row[d]) for row in z]
        mean = sum(column) / len(column)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in column) / len(column) + EPS)
        return [(x - mean) / deviation for x in column]

    total = 0.0
    for i in range(4):
        for j in range(4):
            pairs = zip(standard(first, i), standard(second, j), strict=True)
            c = sum(x * y for x, y in pairs) / 7
            total += (1 - c) ** 2 if i == j else 0.01 * c**2
    assert float(barlow(first, second, 0.01)) == pytest.approx(total / 4, abs=1e-12)


def test_constant_projections_cost_1_and_have_a_gradient_that_is_a_number():
    z = torch.ones(6, 5, requires_grad=True)
    loss = barlow(z, z, 0.005)
    loss.backward()
    assert loss.detach() == 1
    assert z.grad.isfinite().all()


def test_equal_views_of_independent_features_cost_nothing():
    z = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert float(barlow(z, z, 1.0)) == pytest.approx(0, abs=1e-4)
