"""Core-tuning against its definition in loops, in float64."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medssl.losses.core_tuning import Draw, core_tuning, draw, focal_contrast, hard_pairs

N, D, CLASSES, T = 7, 5, 4, 0.3
CLASS_N = torch.tensor([0, 1, 1, 2, 0, 1, 3])  # class 2 and 3 have one sample each


def features(seed=0, rows=N, width=D):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64)


def cosine(a, b):
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.hypot(*map(float, a)) / math.hypot(*map(float, b))


def drawn(seed=0):
    torch.manual_seed(seed)
    return draw(CLASS_N, 1.0)


def one_hot(label):
    return [float(c == label) for c in range(CLASSES)]


def mix(share, a, b):
    return [share * float(x) + (1 - share) * float(y) for x, y in zip(a, b, strict=True)]


def test_the_positive_is_mixed_of_the_hardest_of_its_class_and_of_another():
    z_ND, random = features(), drawn()
    pairs = hard_pairs(z_ND, CLASS_N, CLASSES, random)
    for i in range(N):
        same = [j for j in range(N) if j != i and CLASS_N[j] == CLASS_N[i]] or [i]
        other = [j for j in range(N) if CLASS_N[j] != CLASS_N[i]]
        far = min(same, key=lambda j: cosine(z_ND[i], z_ND[j]))
        near = max(other, key=lambda j: cosine(z_ND[i], z_ND[j]))
        share = float(random.positive_share_N[i])
        assert pairs.positive_ND[i].tolist() == pytest.approx(mix(share, z_ND[far], z_ND[near]))
        classes = mix(share, one_hot(CLASS_N[far]), one_hot(CLASS_N[near]))
        assert pairs.positive_target_NC[i].tolist() == pytest.approx(classes)


def test_the_negative_is_mostly_of_another_class():
    z_ND, random = features(), drawn()
    pairs = hard_pairs(z_ND, CLASS_N, CLASSES, random)
    for i in range(N):
        other, share = int(random.other_N[i]), float(random.negative_share_N[i])
        assert CLASS_N[other] != CLASS_N[i]
        assert 0.8 <= share <= 1
        assert pairs.negative_ND[i].tolist() == pytest.approx(mix(share, z_ND[other], z_ND[i]))
        classes = mix(share, one_hot(CLASS_N[other]), one_hot(CLASS_N[i]))
        assert pairs.negative_target_NC[i].tolist() == pytest.approx(classes)


def slow_contrast(v_NP, positive_NP, negative_NP, class_N):
    total = 0.0
    for i in range(len(v_NP)):
        others = [(v_NP[j], bool(class_N[j] == class_N[i])) for j in range(len(v_NP)) if j != i]
        candidates = [*others, (positive_NP[i], True), (negative_NP[i], False)]
        powers = [math.exp(cosine(v_NP[i], v) / T) for v, _ in candidates]
        shares = [
            power / sum(powers)
            for power, (_, positive) in zip(powers, candidates, strict=True)
            if positive
        ]
        total -= sum((1 - p) * math.log(p) for p in shares) / len(shares)
    return total / len(v_NP)


def test_the_contrast_by_definition():
    v_NP, positive_NP, negative_NP = features(1), features(2), features(3)
    found = focal_contrast(v_NP, positive_NP, negative_NP, CLASS_N, T)
    assert found.item() == pytest.approx(slow_contrast(v_NP, positive_NP, negative_NP, CLASS_N))


def test_both_parts_by_definition():
    torch.manual_seed(0)
    classify, project = nn.Linear(D, CLASSES).double(), nn.Linear(D, 3).double()
    z_ND, random = features(), drawn()
    found = core_tuning(z_ND, CLASS_N, random, classify=classify, project=project, temperature=T)
    pairs = hard_pairs(z_ND, CLASS_N, CLASSES, random)
    every = [z_ND, pairs.positive_ND, pairs.negative_ND]
    targets = [F.one_hot(CLASS_N, CLASSES), pairs.positive_target_NC, pairs.negative_target_NC]
    terms = [
        -sum(t * math.log(p) for t, p in zip(target, shares, strict=True))
        for rows, wanted in zip(every, targets, strict=True)
        for shares, target in zip(classify(rows).softmax(1).tolist(), wanted.tolist(), strict=True)
    ]
    assert found.smooth.item() == pytest.approx(sum(terms) / (3 * N))
    projected = [project(rows).detach() for rows in every]
    assert found.contrast.item() == pytest.approx(slow_contrast(*projected, CLASS_N))


def test_a_batch_of_one_class_mixes_nothing_in():
    z_ND, class_N = features(), torch.ones(N, dtype=torch.long)
    torch.manual_seed(0)
    pairs = hard_pairs(z_ND, class_N, CLASSES, draw(class_N, 1.0))
    own_NC = F.one_hot(class_N, CLASSES).double()
    torch.testing.assert_close(pairs.negative_ND, z_ND)
    torch.testing.assert_close(pairs.positive_target_NC, own_NC)
    torch.testing.assert_close(pairs.negative_target_NC, own_NC)
    far_N = [
        min((j for j in range(N) if j != i), key=lambda j: cosine(z_ND[i], z_ND[j]))
        for i in range(N)
    ]
    torch.testing.assert_close(pairs.positive_ND, z_ND[far_N])


def test_alike_within_a_class_and_unlike_others_costs_less_than_the_opposite():
    class_N = torch.tensor([0, 0, 1, 1])
    apart = torch.eye(2).double()[class_N]
    across = torch.eye(2).double()[[0, 1, 0, 1]]
    still = Draw(torch.ones(4), torch.ones(4), torch.tensor([2, 3, 0, 1]))

    def loss(z_ND):
        pairs = hard_pairs(z_ND, class_N, 2, still)
        return focal_contrast(z_ND, pairs.positive_ND, pairs.negative_ND, class_N, 0.07)

    # Two positives share all of the probability: p = 1/2 each, so half of log 2.
    assert loss(apart).item() == pytest.approx(0.5 * math.log(2), rel=1e-4)
    assert loss(across) > 5


def test_pairs_that_are_alike_already_hardly_move():
    class_N = torch.tensor([0, 1, 2])
    v_NP = torch.eye(3).double().requires_grad_()
    negative_NP = v_NP.detach()[[1, 2, 0]]
    easy = focal_contrast(v_NP, v_NP.detach(), negative_NP, class_N, 0.07)
    (slope,) = torch.autograd.grad(easy, v_NP)
    assert easy < 1e-10
    assert slope.abs().max() < 1e-5


def test_draws_follow_the_generator_and_stay_in_their_limits():
    torch.manual_seed(5)
    first = draw(CLASS_N.repeat(300), 1.0)
    torch.manual_seed(5)
    again = draw(CLASS_N.repeat(300), 1.0)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert first.positive_share_N.mean().item() == pytest.approx(0.5, abs=0.03)
    # Of a uniform share, all below 0.8 become 0.8.
    assert (first.negative_share_N == 0.8).float().mean().item() == pytest.approx(0.8, abs=0.04)


def test_gradients_reach_features_and_are_numbers():
    z_ND = features().float().requires_grad_()
    found = core_tuning(
        z_ND, CLASS_N, drawn(), classify=lambda z: z[:, :CLASSES], project=lambda z: z,
        temperature=0.07,
    )  # fmt: skip
    for part in found:
        (slope,) = torch.autograd.grad(part, z_ND, retain_graph=True)
        assert slope.isfinite().all()
        assert slope.any(dim=1).all()


def test_a_projection_of_zeros_has_a_loss_and_a_gradient():
    v_NP = torch.zeros(N, 3, requires_grad=True)
    loss = focal_contrast(v_NP, v_NP, v_NP, CLASS_N, T)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, v_NP)[0].isfinite().all()


def test_features_of_half_precision_keep_exact_classes():
    z_ND = features().bfloat16()
    pairs = hard_pairs(z_ND, CLASS_N, CLASSES, drawn())
    torch.testing.assert_close(pairs.positive_target_NC.sum(1), torch.ones(N))
    found = core_tuning(
        z_ND, CLASS_N, drawn(), classify=lambda z: z[:, :CLASSES], project=lambda z: z,
        temperature=T,
    )  # fmt: skip
    assert found.smooth.dtype == found.contrast.dtype == torch.float32
