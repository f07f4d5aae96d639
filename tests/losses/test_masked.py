"""Masked modelling: the error, the targets and the best constant against loops."""

import math
import statistics

import pytest
import torch

from medssl.losses.masked import best_constant, cell_normalised, masked_error

KINDS = ("mse", "l1")


def case(seed=0, shape=(3, 2, 4, 4, 2)):
    torch.manual_seed(seed)
    prediction, target = torch.randn(2, *shape, dtype=torch.float64)
    hidden = (torch.rand(shape[0], 1, *shape[2:], dtype=torch.float64) < 0.6).double()
    return prediction, target, hidden


def slow_rows(prediction, target, hidden, kind):
    rows = []
    for p, t, h in zip(prediction, target, hidden.expand_as(target), strict=True):
        errors = [
            (a - b) ** 2 if kind == "mse" else abs(a - b)
            for a, b, counts in zip(
                p.flatten().tolist(), t.flatten().tolist(), h.flatten().tolist(), strict=True
            )
            if counts
        ]
        rows.append(sum(errors) / len(errors))
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_is_its_definition(kind):
    prediction, target, hidden = case()
    expected = torch.tensor(slow_rows(prediction, target, hidden, kind), dtype=torch.float64)
    torch.testing.assert_close(masked_error(prediction, target, hidden, kind), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_seen_has_no_say(kind):
    prediction, target, hidden = case()
    prediction.requires_grad_()
    masked_error(prediction, target, hidden, kind).sum().backward()
    assert (prediction.grad * (1 - hidden) == 0).all()
    assert (prediction.grad * hidden != 0).any()


def test_a_row_without_hidden_voxels_costs_nothing():
    prediction, target, hidden = case()
    hidden[1] = 0
    error_B = masked_error(prediction, target, hidden, "mse")
    assert error_B[1] == 0
    assert (error_B[[0, 2]] > 0).all()


@pytest.mark.parametrize("shape", [(2, 1, 4, 6), (2, 2, 4, 6, 2)])
def test_cells_are_normalised_one_by_one(shape):
    torch.manual_seed(0)
    x, cells, eps = torch.randn(shape, dtype=torch.float64), (2, 3, 1)[: len(shape) - 2], 1e-3
    found = cell_normalised(x, cells, eps)
    sizes = [n // c for n, c in zip(shape[2:], cells, strict=True)]
    for index in torch.cartesian_prod(*(torch.arange(c) for c in cells)).tolist():
        box = tuple(slice(i * s, (i + 1) * s) for i, s in zip(index, sizes, strict=True))
        for b in range(shape[0]):
            for c in range(shape[1]):
                values = x[(b, c, *box)].flatten().tolist()
                mean, variance = statistics.fmean(values), statistics.pvariance(values)
                expected = [(v - mean) / math.sqrt(variance + eps) for v in values]
                got = found[(b, c, *box)].flatten()
                torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_no_constant_does_better_than_the_best(kind):
    _, target, hidden = case()
    best = best_constant(target, hidden, kind)
    tried = [
        float(masked_error(torch.full_like(target, c), target, hidden, kind).mean())
        for c in torch.linspace(-2, 2, 801, dtype=torch.float64).tolist()
    ]
    assert best <= min(tried) + 1e-12
    assert best == pytest.approx(min(tried), abs=1e-3)


def test_with_equal_shares_the_best_constant_is_the_variance_of_what_is_hidden():
    _, target, _ = case()
    hidden = torch.zeros(3, 1, 4, 4, 2, dtype=torch.float64)
    hidden[:, :, ::2] = 1
    values = target[hidden.expand_as(target) > 0]
    assert best_constant(target, hidden, "mse") == pytest.approx(float(values.var(correction=0)))
