"""Self-distillation: every formula against loops in float64, and what keeps it from collapse."""

import math

import pytest
import torch

from medssl.losses import dino

F64 = torch.float64


def logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def slow_softmax(row, temperature):
    scaled = [x / temperature for x in row]
    weights = [math.exp(x - max(scaled)) for x in scaled]
    return [w / sum(weights) for w in weights]


def slow_entropy(target, row, temperature):
    told = slow_softmax(row, temperature)
    return -sum(p * math.log(q) for p, q in zip(target, told, strict=True))


def slow_sinkhorn(rows, temperature, iterations):
    """The iterations of SwAV in its own terms: columns sum to 1 / P, then rows to 1 / N."""
    n, p = len(rows), len(rows[0])
    q = [[math.exp(x / temperature) for x in row] for row in rows]
    total = sum(map(sum, q))
    q = [[x / total for x in row] for row in q]
    for _ in range(iterations):
        columns = [sum(row[k] for row in q) for k in range(p)]
        q = [[x / columns[k] / p for k, x in enumerate(row)] for row in q]
        q = [[x / sum(row) / n for x in row] for row in q]
    return [[x * n for x in row] for row in q]


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_sinkhorn_is_its_definition(iterations):
    rows = logits(6, 5)
    found = dino.sinkhorn(rows, 0.3, iterations=iterations)
    expected = torch.tensor(slow_sinkhorn(rows.tolist(), 0.3, iterations), dtype=F64)
    torch.testing.assert_close(found, expected)


def test_sinkhorn_uses_all_prototypes_equally_in_the_end():
    rows = logits(32, 4) + torch.tensor([5.0, 0.0, 0.0, 0.0])  # all would name the first one
    found = dino.sinkhorn(rows, 1.0, iterations=50)
    torch.testing.assert_close(found.sum(1), torch.ones(32, dtype=F64))
    torch.testing.assert_close(found.sum(0), torch.full((4,), 8.0, dtype=F64), rtol=1e-3, atol=0)


def test_sinkhorn_stands_sharp_temperatures_equal_rows_and_no_rows():
    sharp = dino.sinkhorn(torch.randn(8, 16).clamp(-1, 1), 0.01, iterations=3)
    assert sharp.isfinite().all()
    same = dino.sinkhorn(torch.randn(1, 16).expand(8, -1), 0.04, iterations=3)
    torch.testing.assert_close(same, torch.full((8, 16), 1 / 16))
    assert dino.sinkhorn(torch.empty(0, 16), 0.04, iterations=3).shape == (0, 16)


def test_centred_assignments_are_their_definition():
    rows, centre = logits(4, 5), logits(5, seed=1)
    found = dino.centred(rows, 0.07, centre)
    expected = [slow_softmax((row - centre).tolist(), 0.07) for row in rows]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=F64))


@pytest.mark.parametrize(("views", "others"), [(2, 2), (2, 5), (1, 3)])
def test_the_loss_across_views_is_its_definition(views, others):
    teacher, student = logits(3, views, 6).softmax(-1), logits(3, others, 6, seed=1)
    found = dino.across_views(teacher, student, 0.1)
    for b in range(3):
        pairs = [
            slow_entropy(teacher[b, g].tolist(), student[b, v].tolist(), 0.1)
            for g in range(views)
            for v in range(others)
            if g != v
        ]
        assert float(found[b]) == pytest.approx(sum(pairs) / len(pairs))


def test_the_loss_of_hidden_tokens_is_its_definition():
    hidden = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]]).bool()
    teacher, student = logits(4, 6).softmax(-1), logits(4, 6, seed=1)
    found = dino.hidden_tokens(teacher, student, hidden, 0.1)
    costs = [
        slow_entropy(t, s, 0.1) for t, s in zip(teacher.tolist(), student.tolist(), strict=True)
    ]
    assert float(found) == pytest.approx((sum(costs[:3]) / 3 + costs[3]) / 2)


def test_no_hidden_token_costs_nothing_and_has_a_gradient():
    student = torch.empty(0, 6, requires_grad=True)
    cost = dino.hidden_tokens(torch.empty(0, 6), student, torch.zeros(2, 4).bool(), 0.1)
    cost.backward()
    assert cost == 0
    assert student.grad is not None


def test_koleo_is_its_definition():
    z, costs = logits(5, 3), []
    unit = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in z.tolist()]
    for i, a in enumerate(unit):
        nearest = min(math.dist(a, b) for j, b in enumerate(unit) if j != i)
        costs.append(-math.log(nearest + 1e-8))
    assert float(dino.koleo(z, 1e-8)) == pytest.approx(sum(costs) / len(costs))


def test_koleo_pushes_neighbours_apart_and_stands_twins():
    z = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]], requires_grad=True)
    dino.koleo(z, 1e-8).backward()
    assert z.grad[0, 1] > 0  # a step against the gradient leads away from the second
    assert z.grad[1, 1] < 0
    twins = torch.ones(2, 3, requires_grad=True)
    cost = dino.koleo(twins, 1e-8)
    cost.backward()
    assert cost.isfinite()
    assert twins.grad.isfinite().all()


def test_one_vector_has_no_neighbour():
    with pytest.raises(ValueError, match="two volumes"):
        dino.koleo(torch.ones(1, 3), 1e-8)


def test_no_gradient_reaches_the_teacher():
    teacher = logits(2, 2, 6).softmax(-1).requires_grad_()
    student = logits(2, 3, 6).requires_grad_()
    dino.across_views(teacher, student, 0.1).sum().backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_a_blind_student_cannot_get_below_the_entropy_of_even_assignments():
    rows = torch.zeros(8, 2, 16)
    assigned = dino.sinkhorn(rows.flatten(0, 1), 0.04, iterations=3).view_as(rows)
    for student in (rows, torch.randn(16).expand(8, 2, 16)):
        cost = dino.across_views(assigned, student, 0.1).mean()
        assert cost >= math.log(16) - 1e-5
    even = dino.across_views(assigned, rows, 0.1).mean()
    assert float(even) == pytest.approx(math.log(16))


def test_sums_and_counts_of_all_rows():
    total, count = dino.total_of(torch.arange(6.0).view(3, 2))
    assert total.tolist() == [6, 9]
    assert count == 3


def test_koleo_finds_the_nearest_of_much_alike_rows_in_autocast_too():
    generator = torch.Generator().manual_seed(0)
    z = 1 + 1e-2 * torch.randn(8, 32, generator=generator)
    exact = dino.koleo(z.double(), 1e-8)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(dino.koleo(z, 1e-8)) == pytest.approx(float(exact), abs=1e-3)


def test_koleo_of_a_blank_volume_leaves_the_others_their_gradient():
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    z[2] = 0
    z.requires_grad_()
    (grad,) = torch.autograd.grad(dino.koleo(z, 1e-8), z)
    assert grad.abs().max() < 100
