"""Global contrast: the published index arithmetic in loops, counts of pairs, gradients."""

import math

import pytest
import torch

from medssl.losses import global_local as losses
from medssl.losses.ntxent import Pairs, masked_info_nce

T = 0.1
S = 4
STRATEGIES = ["gr", "gd-", "gd", "gd_cross"]


def exponentials(z):
    unit = z / z.norm(dim=1, keepdim=True)
    return (unit @ unit.T / T).exp()


def slow_pair_term(e, a, p, negatives):
    return -torch.log(e[a, p] / (e[a, p] + e[a, negatives].sum()))


def embeddings(volumes, views, dim=6, partitions=S):
    generator = torch.Generator().manual_seed(volumes)
    rows = volumes * partitions * views
    return torch.randn(rows, dim, generator=generator, dtype=torch.float64).requires_grad_()


def row(volume, partition, view, views):
    """Our order: by volume, then partition, then view."""
    return (volume * S + partition) * views + view


def batch_of(z, volumes, views, groups):
    """The published batch: blocks of four slices, given as (volume, view) for every block."""
    index = [row(volume % volumes, s, view, views) for volume, view in groups for s in range(S)]
    return z[index]


def summed(z, pairs, different):
    e, total = exponentials(z), 0.0
    for i, j in pairs:
        for a, p in ((i, j), (j, i)):
            total = total + slow_pair_term(e, a, p, different(a))
    return total, 2 * len(pairs)


def of_other_partitions(rows):
    return lambda a: [n for n in range(rows) if n % S != a % S]


def slow_gr(z, volumes):
    """Batch 2N interleaved, slices and their views; the denominator is all others."""
    rows = len(z)
    pairs = [(i, i + 1) for i in range(0, rows, 2)]
    total, terms = summed(z, pairs, lambda a: [n for n in range(rows) if n // 2 != a // 2])
    return total / rows, terms


def slow_gd_minus(z, volumes):
    """[original, first view, second view] of N slices: i, i + N, i + 2 N; sum / 3 N."""
    n = volumes * S
    batch = batch_of(z, volumes, 3, [(v, view) for view in range(3) for v in range(volumes)])
    pairs = [pair for i in range(n) for pair in ((i, i + n), (i, i + 2 * n), (i + n, i + 2 * n))]
    total, terms = summed(batch, pairs, of_other_partitions(3 * n))
    return total / (3 * n), terms


def slow_gd(z, volumes):
    """Groups of 16 [set1 | set1 view | set2 | set2 view]; anchors in the originals; sum / 4 N."""
    n = volumes * S
    groups = [b for v in range(volumes) for b in ((v, 0), (v, 1), (v + 1, 0), (v + 1, 1))]
    batch = batch_of(z, volumes, 2, groups)
    assert len(batch) == 4 * n
    pairs = []
    for i in range(4 * n):
        if i % 16 in (0, 1, 2, 3, 8, 9, 10, 11):
            for a, b in ((i, i + 4), (i, i + 8), (i + 8, i + 12), (i + 4, i + 12)):
                pairs.append((a % (4 * n), b % (4 * n)))
    total, terms = summed(batch, pairs, of_other_partitions(4 * n))
    return total / (4 * n), terms


def slow_gd_cross(z, volumes):
    """Groups of 24, two views per set; seven pairs from every original; sum / 6 N."""
    n = volumes * S
    groups = [(v + s, view) for v in range(volumes) for s in range(2) for view in range(3)]
    batch = batch_of(z, volumes, 3, groups)
    assert len(batch) == 6 * n
    pairs = []
    for i in range(6 * n):
        if i % 24 < 4 or 12 <= i % 24 < 16:
            o1, a1, b1, o2, a2, b2 = (range(i, i + 24, 4)[k] % (6 * n) for k in range(6))
            pairs += [(o1, a1), (o1, b1), (o2, a2), (o2, b2), (o1, o2), (a1, a2), (b1, b2)]
    total, terms = summed(batch, pairs, of_other_partitions(6 * n))
    return total / (6 * n), terms


SLOW = {"gr": slow_gr, "gd-": slow_gd_minus, "gd": slow_gd, "gd_cross": slow_gd_cross}
TERMS = {"gr": 2, "gd-": 6, "gd": 16, "gd_cross": 28}
"""Per slice: `gd` has 8 for every original, and each slice is an original twice."""


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("volumes", [2, 3])
def test_published_loss_is_its_index_arithmetic_pair_by_pair(strategy, volumes):
    z = embeddings(volumes, losses.VIEWS[strategy])
    slow, terms = SLOW[strategy](z, volumes)
    assert terms == TERMS[strategy] * volumes * S
    _, pairs = losses.published_pairs(strategy, volumes, S)
    assert int(pairs.positive_NN.sum()) == terms
    fast = losses.published_contrast(z, strategy, volumes, T)
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(
        torch.autograd.grad(fast, z)[0], torch.autograd.grad(slow, z)[0], rtol=1e-8, atol=1e-10
    )


def slow_alike(strategy, a, b):
    """Volume, partition and view of two rows to whether they are alike."""
    (v, s, c), (w, t, d) = a, b
    same_image = (v, s) == (w, t)
    return {
        "gr": same_image,
        "gd-": same_image,
        "gd": same_image or (s == t and v != w and c == d),
        "gd_cross": s == t,
    }[strategy]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_pair_once_by_what_the_strategy_says(strategy):
    volumes, views = 3, 2
    z = embeddings(volumes, views)
    rows = [(v, s, c) for v in range(volumes) for s in range(S) for c in range(views)]
    e, terms = exponentials(z), []
    for a in range(len(rows)):
        for p in range(len(rows)):
            if a == p or not slow_alike(strategy, rows[a], rows[p]):
                continue
            negatives = [
                n
                for n in range(len(rows))
                if (rows[n][:2] != rows[a][:2] if strategy == "gr" else rows[n][1] != rows[a][1])
            ]
            terms.append(slow_pair_term(e, a, p, negatives))
    partition = torch.arange(S).repeat_interleave(views).expand(volumes, -1)
    pairs = losses.strategy_pairs(strategy, losses.origin(partition, views))
    assert int(pairs.positive_NN.sum()) == len(terms)
    fast, slow = masked_info_nce(z, *pairs, T), sum(terms) / len(terms)
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(torch.autograd.grad(fast, z)[0], torch.autograd.grad(slow, z)[0])


def test_published_and_even_layouts_agree_where_every_pair_comes_once():
    for strategy, factor in (("gr", 1), ("gd-", 2)):
        views = losses.VIEWS[strategy]
        z = embeddings(3, views)
        partition = torch.arange(S).repeat_interleave(views).expand(3, -1)
        pairs = losses.strategy_pairs(strategy, losses.origin(partition, views))
        torch.testing.assert_close(
            losses.published_contrast(z, strategy, 3, T),
            factor * masked_info_nce(z, *pairs, T),
        )


def test_partitions_are_those_that_were_cut_not_those_asked_for():
    """Two regions of a short volume in one partition are not each other's negatives."""
    rows = losses.origin(torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]]), 2)
    pairs = losses.strategy_pairs("gd", rows)
    assert not pairs.negative_NN[0, 2:4].any()
    assert pairs.negative_NN[0].tolist() == [False] * 4 + [True, True, False, False]
    assert pairs.positive_NN[0].tolist() == [False, True] + [False] * 4 + [True, False]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_embeddings_cost_the_closed_form(strategy):
    views = losses.VIEWS[strategy]
    z = torch.ones(3 * S * views, 5, dtype=torch.float64)
    index, pairs = losses.published_pairs(strategy, 3, S)
    fast = losses.published_contrast(z, strategy, 3, T)
    negatives = len(index) - 2 if strategy == "gr" else len(index) * 3 // 4
    expected = math.log(1 + negatives) * int(pairs.positive_NN.sum()) / len(index)
    assert float(fast) == pytest.approx(expected)
    assert losses.published_collapsed(strategy, 3, S) == pytest.approx(expected)
    assert isinstance(pairs, Pairs)


def test_one_volume_has_no_other_to_pair_with():
    with pytest.raises(ValueError, match="raise loader"):
        losses.published_pairs("gd", 1, S)
