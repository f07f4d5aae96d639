"""Contrastive losses: their definitions in loops over pairs, their edges, their collapse values."""

import math

import pytest
import torch
from torch.nn import functional as F

from medssl.losses import ntxent as losses
from medssl.losses.ntxent import Mixing, Pairs

T = 0.3


def slow_cosine(a, b):
    return (a @ b) / (a.norm() * b.norm())


def slow_pair_term(z, a, p, negatives, temperature=T):
    """l(a, p; N), as it is written."""
    top = (slow_cosine(z[a], z[p]) / temperature).exp()
    rest = sum((slow_cosine(z[a], z[n]) / temperature).exp() for n in negatives)
    return -torch.log(top / (top + rest))


def embeddings(rows=8, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, dim, generator=generator, dtype=torch.float64).requires_grad_()


def random_pairs(rows=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(0, 3, (rows, rows), generator=generator)
    kind.fill_diagonal_(2)
    count = torch.randint(1, 3, (rows, rows), generator=generator)
    return Pairs((kind == 0) * count, kind == 1)


def assert_same_loss_and_gradient(fast, slow, z):
    torch.testing.assert_close(fast, slow)
    got, expected = (torch.autograd.grad(loss, z, retain_graph=True)[0] for loss in (fast, slow))
    torch.testing.assert_close(got, expected)


def test_masked_info_nce_is_the_mean_pair_term():
    z, pairs = embeddings(), random_pairs()
    total, count = 0.0, 0
    for a in range(8):
        negatives = pairs.negative_NN[a].nonzero()[:, 0].tolist()
        for p in range(8):
            times = int(pairs.positive_NN[a, p])
            total = total + times * slow_pair_term(z, a, p, negatives)
            count += times
    assert_same_loss_and_gradient(losses.masked_info_nce(z, *pairs, T), total / count, z)


def slow_ntxent(z, sample):
    """Chen et al. 2020: the denominator is every other row; each anchor has one positive."""
    total = 0.0
    for a in range(len(z)):
        (p,) = [i for i in range(len(z)) if i != a and sample[i] == sample[a]]
        others = [i for i in range(len(z)) if i != a]
        bottom = sum((slow_cosine(z[a], z[i]) / T).exp() for i in others)
        total = total - torch.log((slow_cosine(z[a], z[p]) / T).exp() / bottom)
    return total / len(z)


def test_ntxent_of_two_views_is_as_published():
    z = embeddings()
    assert_same_loss_and_gradient(losses.ntxent(z, T), slow_ntxent(z, [0, 1, 2, 3] * 2), z)


def test_ntxent_does_not_mind_the_order_of_rows():
    z, order = embeddings(), torch.tensor([3, 0, 7, 4, 1, 6, 2, 5])
    shuffled = losses.ntxent(z[order], T, sample_N=losses.two_views(8)[order])
    torch.testing.assert_close(shuffled, losses.ntxent(z, T))


def test_more_views_than_two_are_all_positives_of_each_other_and_never_negatives():
    z, sample = embeddings(6), [0, 0, 0, 1, 1, 1]
    terms = [
        slow_pair_term(z, a, p, [i for i in range(6) if sample[i] != sample[a]])
        for a in range(6)
        for p in range(6)
        if a != p and sample[a] == sample[p]
    ]
    assert len(terms) == 12
    fast = losses.ntxent(z, T, sample_N=torch.tensor(sample))
    assert_same_loss_and_gradient(fast, sum(terms) / 12, z)


def test_intra_volume_negatives_are_of_the_same_volume():
    z = embeddings()
    sample, volume = [0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 0, 0, 1, 1, 1, 1]
    pairs = losses.pairs_of_samples(torch.tensor(sample), torch.tensor(volume))
    terms = []
    for a in range(8):
        p = a ^ 1
        negatives = [i for i in range(8) if volume[i] == volume[a] and sample[i] != sample[a]]
        assert len(negatives) == 2
        terms.append(slow_pair_term(z, a, p, negatives))
    assert_same_loss_and_gradient(losses.masked_info_nce(z, *pairs, T), sum(terms) / 8, z)


def slow_dcl(z, sample, sigma=None):
    pairs = [
        (a, p) for a in range(len(z)) for p in range(len(z)) if a != p and sample[a] == sample[p]
    ]
    cosines = torch.stack([slow_cosine(z[a], z[p]) for a, p in pairs])
    weights = torch.ones(len(pairs), dtype=z.dtype)
    if sigma is not None:
        likeness = (cosines / sigma).exp()
        weights = 2 - likeness / likeness.mean()
    total = 0.0
    for (a, _), cosine, weight in zip(pairs, cosines, weights, strict=True):
        rest = sum(
            (slow_cosine(z[a], z[n]) / T).exp() for n in range(len(z)) if sample[n] != sample[a]
        )
        total = total - weight * cosine / T + torch.log(rest)
    return total / len(pairs)


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_decoupled_losses_leave_the_positive_out_of_the_denominator(sigma):
    z, sample = embeddings(), [0, 1, 2, 3] * 2
    pairs = losses.pairs_of_samples(torch.tensor(sample))
    fast = losses.dcl(z, *pairs, T, sigma=sigma)
    assert_same_loss_and_gradient(fast, slow_dcl(z, sample, sigma), z)


def test_mixed_negatives_lie_between_the_hardest_ones_and_near_the_anchor():
    z = embeddings(12)
    pairs = losses.pairs_of_samples(losses.two_views(12))
    logits = losses.cosine_logits(z, z, T)
    torch.manual_seed(0)
    synthetic = losses.mix_hardest(z, logits, pairs.negative_NN, Mixing(2, 20, 10))
    assert synthetic.shape == (12, 30, 5)
    unit = F.normalize(z.detach(), dim=1)
    for a in range(12):
        cosines = unit[a] @ unit.T
        negatives = pairs.negative_NN[a].nonzero()[:, 0]
        first, second = negatives[cosines[negatives].argsort(descending=True)[:2]]
        for s, h in enumerate(synthetic[a]):
            basis = torch.stack([unit[first], unit[second]] + [unit[a]] * (s >= 20), dim=1)
            share = torch.linalg.lstsq(basis, h[:, None])
            assert (basis @ share.solution - h[:, None]).norm() < 1e-9
            assert (share.solution > -1e-9).all()
            if s >= 20:  # beta * anchor + (1 - beta) * negative with beta below a half
                assert share.solution[2] <= share.solution[:2].sum()


def test_mochi_is_the_loss_with_the_synthetic_negatives_added():
    z, mixing = embeddings(), Mixing(4, 3, 2)
    pairs = losses.pairs_of_samples(losses.two_views(8))
    torch.manual_seed(5)
    fast = losses.mochi(z, *pairs, T, mixing)
    torch.manual_seed(5)
    logits = losses.cosine_logits(z, z, T)
    synthetic = losses.mix_hardest(z, logits, pairs.negative_NN, mixing)
    total = 0.0
    for a in range(8):
        p = (a + 4) % 8
        rest = sum((slow_cosine(z[a], z[n]) / T).exp() for n in range(8) if n not in (a, p))
        rest = rest + sum((slow_cosine(z[a], h) / T).exp() for h in synthetic[a])
        top = (slow_cosine(z[a], z[p]) / T).exp()
        total = total - torch.log(top / (top + rest))
    assert_same_loss_and_gradient(fast, total / 8, z)


def every_loss(z, pairs):
    return {
        "ntxent": losses.masked_info_nce(z, *pairs, T),
        "dcl": losses.dcl(z, *pairs, T),
        "dclw": losses.dcl(z, *pairs, T, sigma=0.5),
        "mochi": losses.mochi(z, *pairs, T, Mixing(4, 3, 2)),
    }


def test_equal_embeddings_cost_what_the_closed_form_says():
    pairs = losses.pairs_of_samples(losses.two_views(8))
    parts = every_loss(torch.ones(8, 3, dtype=torch.float64), pairs)
    expected = {
        "ntxent": losses.collapsed(pairs),
        "dcl": losses.collapsed(pairs, decoupled=True),
        "dclw": losses.collapsed(pairs, decoupled=True),
        "mochi": losses.collapsed(pairs, synthetic=5),
    }
    assert {k: float(v) for k, v in parts.items()} == pytest.approx(expected)
    assert expected["ntxent"] == pytest.approx(math.log(2 * 4 - 1))
    assert expected["dcl"] == pytest.approx(math.log(2 * 4 - 2))


@pytest.mark.parametrize("what", ["zeros", "no negatives", "no positives", "tiny temperature"])
def test_edges_are_finite_with_finite_gradients(what):
    z = embeddings().detach()
    pairs = losses.pairs_of_samples(losses.two_views(8))
    if what == "zeros":
        z[0] = 0
    if what == "no negatives":
        pairs = Pairs(pairs.positive_NN, torch.zeros_like(pairs.negative_NN))
    if what == "no positives":
        pairs = Pairs(torch.zeros_like(pairs.positive_NN), pairs.negative_NN)
    z.requires_grad_()
    parts = every_loss(z, pairs)
    parts["tiny temperature"] = losses.masked_info_nce(z.float(), *pairs, 1e-4)
    total = sum(parts.values())
    (grad,) = torch.autograd.grad(total, z)
    assert total.isfinite()
    assert grad.isfinite().all()
    if what in {"no negatives", "no positives"}:
        assert total == 0


def test_a_row_of_zeros_costs_no_step_of_float16():
    z = embeddings().detach().half()
    z[0] = 0
    z.requires_grad_()
    (grad,) = torch.autograd.grad(losses.ntxent(z, T), z)  # not scaled up, as it would be
    assert grad[0].abs().max() < 10 * grad[1:].abs().max()
    assert grad.isfinite().all()


@pytest.mark.parametrize("sigma", [1e-3, 0.01, 0.02])
def test_dclw_does_not_overflow_where_sigma_is_small(sigma):
    z, pairs = embeddings().float(), losses.pairs_of_samples(losses.two_views(8))
    with torch.no_grad():
        z[4:6] = z[:2]  # two pairs of cosine 1: their attraction is 2 - 4 / 2
    loss = losses.dcl(z, *pairs, T, sigma=sigma)
    terms = []
    for a in range(8):
        rest = sum(
            (slow_cosine(z[a], z[n]) / T).exp() for n in range(8) if n not in {a, (a + 4) % 8}
        )
        weight = 0 if a % 4 < 2 else 2
        terms.append(torch.log(rest) - weight * slow_cosine(z[a], z[(a + 4) % 8]) / T)
    torch.testing.assert_close(loss, sum(terms) / 8)
    assert torch.autograd.grad(loss, z)[0].isfinite().all()


def test_half_precision_and_autocast_are_computed_in_float32():
    z = embeddings().detach().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = losses.ntxent(z, T)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, losses.ntxent(z, T), rtol=0, atol=0)
    assert losses.ntxent(z.bfloat16(), T).dtype == torch.float32


def test_scores_are_the_mean_cosines_of_both_kinds_of_pair():
    z = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 2]])
    scores = losses.pair_scores(z, losses.pairs_of_samples(losses.two_views(4)))
    assert scores == {"positive_cosine": 1.0, "negative_cosine": 0.0}
