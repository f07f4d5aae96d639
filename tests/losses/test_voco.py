"""VoCo's objective: its definition in loops, the reference's golden values, and its edges."""

import math

import numpy as np
import pytest
import torch

from medssl.losses import voco
from medssl.losses.voco import Projections

TWO_NETWORKS = {"large_scale": voco.large_scale, "released": voco.released}
VARIANTS = {
    **TWO_NETWORKS,
    "paper": lambda student, _, labels, **options: voco.paper(student, labels, **options),
}
CASES = [f"B{b}_SW{n}_seed{seed}" for b, n in ((1, 1), (2, 2), (3, 4)) for seed in (0, 1)]


def slow_cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / (
        math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    )


def slow_overlap_loss(prediction, labels, negative, weighted=True):
    """One volume, by the papers' formulas and the published code's weights, pair by pair."""
    positive = weight = apart = count = 0.0
    for row_s, row_y in zip(prediction, labels, strict=True):
        for s, y in zip(row_s, row_y, strict=True):
            share = y if weighted else float(y > 0)
            positive += share * -math.log(1 - abs(y - s) + 1e-6)
            weight += share
            if y == 0:
                apart += -math.log(1 - s + 1e-6) if negative == "log" else s**2
                count += 1
    count = float(np.float32(count) + np.float32(1e-6))
    return positive / (weight + 1e-6), apart / count


def slow_regulariser(bases):
    pairs = [(k, m) for k in range(len(bases)) for m in range(k + 1, len(bases))]
    return sum(max(slow_cosine(bases[k], bases[m]), 0) ** 2 for k, m in pairs) / len(pairs)


def slow_prediction(crops, bases):
    return [[max(slow_cosine(z, b), 0) for b in bases] for z in crops]


def slow_parts(variant, student, teacher, labels):
    (sr, sb), (tr, tb) = (tuple(part.tolist() for part in z) for z in (student, teacher))
    parts = []
    for i in range(len(sr)):
        j, y = (i + 1) % len(sr), labels[i].tolist()
        reg = slow_regulariser(sb[i])
        if variant == "large_scale":
            intra = sum(slow_overlap_loss(slow_prediction(sr[i], tb[i]), y, "log"))
            agreed = slow_prediction(tr[i], tb[j])
            inter = sum(slow_overlap_loss(slow_prediction(sr[i], sb[j]), agreed, "log"))
            parts.append((intra, inter, reg))
        elif variant == "paper":
            placed = slow_prediction(sr[i], sb[i])
            parts.append((*slow_overlap_loss(placed, y, "square", weighted=False), reg))
        else:
            one, two = slow_prediction(sr[i], tb[i]), slow_prediction(tr[i], sb[i])
            mean = [
                [0.5 * (a + b) for a, b in zip(*rows, strict=True)]
                for rows in zip(one, two, strict=True)
            ]
            parts.append((*slow_overlap_loss(mean, y, "square"), reg))
    return [sum(values) / len(parts) for values in zip(*parts, strict=True)]


def random_case(volumes=3, crops=4, bases=9, dim=8, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(n):
        return torch.randn(volumes, n, dim, generator=generator, dtype=torch.float64)

    labels = torch.rand(volumes, crops, bases, generator=generator, dtype=torch.float64)
    labels = labels * (labels > 0.6)
    return Projections(draw(crops), draw(bases)), Projections(draw(crops), draw(bases)), labels


@pytest.mark.parametrize("variant", VARIANTS)
def test_parts_match_their_definition(variant):
    student, teacher, labels = random_case()
    parts = VARIANTS[variant](student, teacher, labels, asymmetric=False)
    expected = slow_parts(variant, student, teacher, labels)
    torch.testing.assert_close(
        torch.stack(list(parts.values())), torch.tensor(expected, dtype=torch.float64)
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("variant", TWO_NETWORKS)
def test_golden_values_and_gradients_of_the_reference(variant, case, shared):
    with np.load(shared / "golden" / "voco_loss.npz") as archive:
        prefix = f"{variant}/{case}/"
        golden = {
            name.removeprefix(prefix): torch.from_numpy(archive[name])
            for name in archive.files
            if name.startswith(prefix)
        }
    labels = golden["position_labels"]
    volumes = len(labels)
    student, teacher = (
        Projections(
            golden[f"{who}_random"].unflatten(0, (volumes, -1)),
            golden[f"{who}_base"].unflatten(0, (volumes, -1)),
        )
        for who in ("student", "teacher")
    )
    for z in student:
        z.requires_grad_()
    parts = VARIANTS[variant](student, teacher, labels, asymmetric=True)
    total = sum(parts.values())
    total.backward()
    for name, value in {**parts, "total": total}.items():
        assert abs(float(value.detach() - golden[name])) < 1e-9, name
    for kind, z in zip(("random", "base"), student, strict=True):
        assert (z.grad.flatten(0, 1) - golden[f"grad_student_{kind}"]).abs().max() < 1e-9


def test_the_teacher_gets_no_gradient():
    student, teacher, labels = random_case()
    for z in (*student, *teacher):
        z.requires_grad_()
    sum(voco.large_scale(student, teacher, labels, asymmetric=False).values()).backward()
    assert all(z.grad is None for z in teacher)
    assert all(z.grad.abs().sum() > 0 for z in student)


def test_symmetric_regulariser_pushes_every_base_crop_and_asymmetric_spares_the_last():
    base, *_ = random_case()[0][1:]
    grads = {}
    for asymmetric in (False, True):
        z = base.clone().requires_grad_()
        voco.base_regulariser(z, asymmetric=asymmetric).sum().backward()
        grads[asymmetric] = z.grad.norm(dim=-1)
    assert (grads[False] > 0).all()
    assert (grads[True][:, -1] == 0).all()


def test_a_dropped_row_of_zeros_gives_a_finite_loss_and_gradient():
    student, teacher, labels = random_case()
    zeroed = student.random_BND.clone()
    zeroed[0, 0] = 0
    zeroed.requires_grad_()
    student = Projections(zeroed, student.base_BKD)
    total = sum(voco.large_scale(student, teacher, labels, asymmetric=False).values())
    total.backward()
    assert total.isfinite()
    assert zeroed.grad.isfinite().all()


def test_in_the_paper_base_crops_learn_from_the_regulariser_alone():
    z, _, labels = random_case()
    for rows in z:
        rows.requires_grad_()
    parts = voco.paper(z, labels, asymmetric=False)
    (parts["positive"] + parts["negative"]).backward(retain_graph=True)
    assert z.base_BKD.grad is None
    assert z.random_BND.grad.abs().sum() > 0
    parts["regularization"].backward()
    assert z.base_BKD.grad.abs().sum() > 0


def test_the_paper_is_the_released_objective_when_teacher_is_student_and_labels_are_equal():
    """With one weight for all overlaps, and no difference between the networks, nothing differs."""
    z, _, labels = random_case()
    labels = (labels > 0).double() * 0.25
    one = voco.paper(z, labels, asymmetric=False)
    other = voco.released(z, z, labels, asymmetric=False)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-5, rtol=0)  # eps beside a weight


def test_predictions_equal_to_the_labels_cost_nothing():
    labels = random_case()[2].clamp(max=0.99)
    for negative in ("log", "square"):
        for weighted in (True, False):
            cost = voco.overlap_loss(labels, labels, negative=negative, weighted=weighted)
            assert cost.abs().max() < 1e-5


def test_orthogonal_base_crops_are_far_enough_apart_and_equal_ones_cost_one():
    assert voco.base_regulariser(torch.eye(4, dtype=torch.float64)[None], asymmetric=False) == 0
    same = torch.ones(1, 4, 8, dtype=torch.float64)
    torch.testing.assert_close(voco.base_regulariser(same, asymmetric=False), same[:, 0, 0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_scale_their_parts_and_nothing_else(variant):
    student, teacher, labels = random_case()
    plain = VARIANTS[variant](student, teacher, labels, asymmetric=False)
    terms = voco.Terms(positive=2, negative=2, inter=3, regulariser=5)
    weighted = VARIANTS[variant](student, teacher, labels, asymmetric=False, terms=terms)
    factors = {"intra": 2, "inter": 6, "positive": 2, "negative": 2, "regularization": 5}
    for name, value in plain.items():
        torch.testing.assert_close(weighted[name], factors[name] * value)


def slow_constant(variant, labels, constant, weights=(1, 1)):
    """The parts of one constant, averaged over volumes by the slow form."""
    negative, weighted = ("log" if variant == "large_scale" else "square"), variant != "paper"
    shape = np.full(labels.shape[1:], constant).tolist()
    per_volume = [slow_overlap_loss(shape, rows.tolist(), negative, weighted) for rows in labels]
    positive, apart = (w * x for w, x in zip(weights, np.mean(per_volume, 0), strict=True))
    if variant == "large_scale":
        return {"intra": positive + apart}
    return {"positive": positive, "negative": apart}


@pytest.mark.parametrize("weights", [(1, 1), (3, 0.5)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_best_constant_is_the_lowest_a_constant_reaches(variant, weights):
    labels = random_case()[2]
    terms = voco.Terms(positive=weights[0], negative=weights[1])
    best = voco.best_constant(variant, labels, terms)
    tried = [slow_constant(variant, labels, c, weights) for c in np.linspace(0, 1, 501)]
    assert set(best) == set(tried[0])
    lowest = min(sum(parts.values()) for parts in tried)
    assert lowest - 1e-3 < sum(best.values()) <= lowest + 1e-9


def test_best_constant_of_crops_that_are_base_crops_has_a_closed_form():
    """One pair in K is 1, the others 0: ``-log c + c^2`` is least where ``2 c^2 = 1``."""
    labels = torch.eye(4, dtype=torch.float64)[None]
    best = voco.best_constant("paper", labels)
    assert best["positive"] == pytest.approx(math.log(2) / 2, abs=1e-5)
    assert best["negative"] == pytest.approx(0.5, abs=1e-5)
    # -log c - log(1 - c) is least at one half
    assert voco.best_constant("large_scale", labels)["intra"] == pytest.approx(
        2 * math.log(2), abs=1e-5
    )


def test_a_product_that_rounds_beyond_1_is_no_overlap_beyond_1(monkeypatch):
    """As in TF32, which keeps ten bits of what is multiplied."""

    def rounded(self, other):
        exact = torch.matmul(self, other)
        coarse = [(x.detach().view(torch.int32) & ~0x1FFF).view(x.dtype) for x in (self, other)]
        return exact + (torch.matmul(*coarse) - exact).detach().abs()

    base = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(0))
    projections = voco.Projections(base[:, :2].clone().requires_grad_(), base)
    labels = torch.zeros(2, 2, 4)
    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    parts = voco.large_scale(projections, projections.detach(), labels, asymmetric=False)
    total = sum(parts.values())
    assert total.isfinite()
    (grad,) = torch.autograd.grad(total, projections.random_BND)
    assert grad.isfinite().all()
