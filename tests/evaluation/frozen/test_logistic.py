import logging
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as their_log_loss

from medssl.evaluation.frozen.logistic import fit_heads, log_loss, standardised

STRENGTHS = torch.tensor([1e-3, 0.1, 3.0], dtype=torch.float64)


def clouds(classes=3, rows=60, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    centres = torch.randn(classes, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    return centres[labels] + 1.5 * noise, labels


def slow_objective(x, y, weight, bias, l2, exclusive):
    """The definition, row by row."""
    total = 0.0
    for row, answers in zip(x.tolist(), y.tolist(), strict=True):
        logits = [
            sum(v * float(w) for v, w in zip(row, weight[:, c], strict=True)) + float(bias[c])
            for c in range(weight.shape[1])
        ]
        if exclusive:
            whole = math.log(sum(map(math.exp, logits)))
            total += whole - sum(v * a for v, a in zip(logits, answers, strict=True))
        else:
            for v, a in zip(logits, answers, strict=True):
                if not math.isnan(a):
                    total += math.log1p(math.exp(v)) - a * v
    return total / len(x) + l2 / 2 * float((weight**2).sum())


def test_heads_of_several_classes_are_those_of_scikit_learn():
    x, labels = clouds()
    heads = fit_heads(x, torch.nn.functional.one_hot(labels).double(), STRENGTHS, exclusive=True)
    for number, l2 in enumerate(STRENGTHS.tolist()):
        theirs = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=10_000).fit(x, labels)
        expected = torch.tensor(theirs.predict_proba(x))
        torch.testing.assert_close(heads.shares(x)[number], expected, rtol=1e-3, atol=1e-4)


def test_columns_are_regressions_of_their_own():
    x, labels = clouds()
    y = torch.stack([labels == 0, labels != 1], dim=1).double()
    heads = fit_heads(x, y, STRENGTHS, exclusive=False)
    for number, l2 in enumerate(STRENGTHS.tolist()):
        for column in (0, 1):
            theirs = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=10_000)
            expected = theirs.fit(x, y[:, column]).predict_proba(x)[:, 1]
            np.testing.assert_allclose(
                heads.shares(x)[number, :, column], expected, rtol=1e-3, atol=1e-4
            )


@pytest.mark.parametrize("exclusive", [True, False])
def test_no_step_away_from_a_head_lowers_its_loss(exclusive):
    x, labels = clouds(rows=20, width=3)
    y = torch.nn.functional.one_hot(labels).double()
    if not exclusive:
        y[3, 1] = torch.nan
    heads = fit_heads(x, y, STRENGTHS, exclusive=exclusive)
    generator = torch.Generator().manual_seed(1)
    for number, l2 in enumerate(STRENGTHS.tolist()):
        weight, bias = heads.weight_HDC[number], heads.bias_HC[number]
        least = slow_objective(x, y, weight, bias, l2, exclusive)
        for _ in range(10):
            away = 1e-2 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            off = 1e-2 * torch.randn(bias.shape, generator=generator, dtype=torch.float64)
            assert slow_objective(x, y, weight + away, bias + off, l2, exclusive) > least


def test_heads_with_rows_of_their_own_do_not_disturb_each_other():
    one, two = clouds(seed=1)[0], clouds(seed=2)[0]
    y = torch.nn.functional.one_hot(clouds()[1]).double()
    l2 = torch.tensor([0.1], dtype=torch.float64)
    both = fit_heads(torch.stack([one, two]), y.expand(2, -1, -1), l2.expand(2), exclusive=True)
    for number, x in enumerate((one, two)):
        alone = fit_heads(x, y, l2, exclusive=True)
        torch.testing.assert_close(
            both.weight_HDC[number], alone.weight_HDC[0], rtol=1e-3, atol=1e-4
        )


def test_too_few_steps_are_said(caplog):
    x, labels = clouds()
    with caplog.at_level(logging.WARNING):
        fit_heads(
            x, torch.nn.functional.one_hot(labels).double(), STRENGTHS, exclusive=True, steps=2
        )
    assert "2 steps did not reach the minimum" in caplog.text


def test_log_loss_is_that_of_scikit_learn():
    x, labels = clouds()
    y = torch.nn.functional.one_hot(labels).double()
    heads = fit_heads(x, y, STRENGTHS, exclusive=True)
    found = log_loss(heads.logits(x), y, exclusive=True)
    for number in range(3):
        theirs = their_log_loss(labels, heads.shares(x)[number])
        assert float(found[number]) == pytest.approx(theirs)


def test_log_loss_passes_over_what_is_not_known():
    logits = torch.tensor([[[0.3, -2.0], [1.0, 0.5]]], dtype=torch.float64)
    y = torch.tensor([[1.0, torch.nan], [0.0, 1.0]], dtype=torch.float64)
    by_hand = [math.log(1 + math.exp(-0.3)), math.log(1 + math.e), math.log(1 + math.exp(-0.5))]
    assert float(log_loss(logits, y, exclusive=False)) == pytest.approx(sum(by_hand) / 3)


def test_features_are_standardised_by_the_rows_learned_from():
    learned = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    found = standardised(torch.tensor([[4.0, 9.0]]), learned)
    assert found.tolist() == [[2.0, 0.0]]  # a feature that never varied tells nothing
