"""Labels of reports: the loop over those that are known, and what a constant can reach."""

import math

import pytest
import torch
from sklearn.metrics import log_loss

from medssl.losses.report_labels import best_constant, report_label_loss

LABELS = torch.tensor([[1.0, 0.0, math.nan], [0.0, -1.0, math.nan], [1.0, 1.0, -1.0]])


def logits(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 3, generator=generator, dtype=torch.float64).requires_grad_()


def test_the_loss_is_the_mean_over_known_labels():
    said = logits()
    known = [(b, f) for b in range(3) for f in range(3) if LABELS[b, f] in (0, 1)]
    assert len(known) == 5
    p = torch.sigmoid(said.detach())
    expected = log_loss(
        [int(LABELS[at]) for at in known], [float(p[at]) for at in known], labels=[0, 1]
    )
    loss = report_label_loss(said, LABELS)
    assert float(loss.detach()) == pytest.approx(expected)
    (grad,) = torch.autograd.grad(loss, said)
    for b in range(3):
        for f in range(3):
            slope = float(p[b, f] - LABELS[b, f]) / 5 if (b, f) in known else 0.0
            assert float(grad[b, f]) == pytest.approx(slope)


def test_present_findings_can_count_more():
    weight, said = torch.tensor([2.0, 3.0, 1.0], dtype=torch.float64), logits().detach()
    total = 0.0
    for b in range(3):
        for f in range(3):
            p = 1 / (1 + math.exp(-float(said[b, f])))
            if LABELS[b, f] == 1:
                total -= float(weight[f]) * math.log(p)
            elif LABELS[b, f] == 0:
                total -= math.log(1 - p)
    assert float(report_label_loss(said, LABELS, weight)) == pytest.approx(total / 5)


def test_gradients():
    assert torch.autograd.gradcheck(lambda x: report_label_loss(x, LABELS), logits())


def test_without_a_known_label_the_loss_is_zero_with_a_graph():
    said, nothing = logits(), torch.full((3, 3), math.nan)
    loss = report_label_loss(said, nothing)
    assert loss == 0
    assert (torch.autograd.grad(loss, said)[0] == 0).all()
    assert best_constant(nothing) == 0


@pytest.mark.parametrize("weight", [None, torch.tensor([2.0, 3.0, 1.0], dtype=torch.float64)])
def test_the_best_constant_is_found_by_no_search_to_be_beaten(weight):
    found = best_constant(LABELS, weight)
    lowest = 0.0
    for f in range(3):
        grid = torch.linspace(-30, 30, 6001, dtype=torch.float64)
        column = LABELS[:, f : f + 1]
        count = int(((column == 0) | (column == 1)).sum())
        of_one = None if weight is None else weight[f : f + 1]
        costs = [report_label_loss(x.expand(3, 1), column, of_one) * count for x in grid[::5]]
        lowest += float(min(costs))
    assert found == pytest.approx(lowest / 5, abs=1e-4)


def test_integer_labels_and_autocast():
    said = logits().detach().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = report_label_loss(said.bfloat16(), LABELS.nan_to_num(-2).to(torch.int8))
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, report_label_loss(said.bfloat16().float(), LABELS))
