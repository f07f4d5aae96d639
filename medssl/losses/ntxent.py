"""Contrastive losses on one similarity matrix with masks: NT-Xent and its relatives.

The pair term of an anchor a, a positive p and negatives N is

    l(a, p; N) = -log( e^{s(a,p)/T} / (e^{s(a,p)/T} + sum_{n in N} e^{s(a,n)/T}) )

with the cosine s. Which pairs are positive and which negative is all that tells the losses apart:
NT-Xent (Chen et al. 2020, arXiv:2002.05709, eq. 1), its decoupled forms (Yeh et al. 2022,
arXiv:2110.06848), hard negatives mixed in (Kalantidis et al. 2020, arXiv:2010.01028), negatives
from the same scan only (Pai et al. 2025, arXiv:2501.09001).

Suffixes: N rows compared with each other, M candidates, P pairs, S synthetic negatives.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.losses.gather import from_first

NEVER = -1e30
"""Logit of what is not compared: its exponential is 0, and unlike -inf its gradient is a number."""
SHORTEST = 1e-12
"""A row no longer than this has no direction."""
EXACT = 60.0
"""Beyond it ``softplus(x)`` is ``x`` to the last bit of a float64."""


class Pairs(NamedTuple):
    """Which rows are compared with which, as ``(N, N)`` masks."""

    positive_NN: Tensor
    """Boolean, or how often each pair counts."""
    negative_NN: Tensor
    """Boolean."""


def pairs_of_samples(sample_N: Tensor, volume_N: Tensor | None = None) -> Pairs:
    """Return the pairs of NT-Xent: rows of one sample are alike, all others are not.

    Args:
        sample_N: Which sample each row shows.
        volume_N: Which volume it was cut from; when given, only rows of the same volume are
            negatives (intra-volume contrast, CT-FM, arXiv:2501.09001).
    """
    same_NN = sample_N[:, None] == sample_N
    negative_NN = ~same_NN
    if volume_N is not None:
        negative_NN = negative_NN & (volume_N[:, None] == volume_N)
    return Pairs(
        same_NN & ~torch.eye(len(sample_N), dtype=torch.bool, device=same_NN.device), negative_NN
    )


def two_views(rows: int, device: torch.device | None = None) -> Tensor:
    """Return the sample of each row when the first views of all samples come before the second."""
    return torch.arange(rows, device=device) % (rows // 2)


def cosine_logits(a_ND: Tensor, b_MD: Tensor, temperature: float) -> Tensor:
    """Return ``cos(a, b) / temperature``, ``(..., N, M)``, in float32 at least, also in autocast.

    A row of zeros has cosine 0 with everything.
    """
    with torch.autocast(a_ND.device.type, enabled=False):
        dtype = torch.promote_types(a_ND.dtype, torch.float32)
        return unit_rows(a_ND.to(dtype)) @ unit_rows(b_MD.to(dtype)).mT / temperature


def unit_rows(z_ND: Tensor) -> Tensor:
    """Return rows of length 1, ``(..., N, D)``; zeros stay zeros and pass their gradient on.

    Divided by a tiny number instead of by 1 its gradient would be huge, which float16 has no
    number for: each such row would cost a step of ``16-mixed``.
    """
    length_N1 = torch.linalg.vector_norm(z_ND, dim=-1, keepdim=True)
    return z_ND / torch.where(length_N1 > SHORTEST, length_N1, 1)


def log_negatives(logits_NM: Tensor, negative_NM: Tensor) -> Tensor:
    """Return ``log sum_{n in N} e^{logit}`` of every anchor, ``(..., N, 1)``.

    Where an anchor has no negatives it is :data:`NEVER`.
    """
    masked_NM = logits_NM.masked_fill(~negative_NM, NEVER)
    return masked_NM.logsumexp(-1, keepdim=True)


def pair_terms(logits_NM: Tensor, log_negatives_N1: Tensor) -> Tensor:
    """Return ``l(a, p; N)`` of every anchor with every candidate, were it the positive."""
    return F.softplus(log_negatives_N1 - logits_NM, threshold=EXACT)


def mean_over(terms_NM: Tensor, weight_NM: Tensor) -> Tensor:
    """Return the weighted mean of terms; 0, with gradient 0, where no pair counts."""
    weight_NM = weight_NM.to(terms_NM.dtype)
    return (terms_NM * weight_NM).sum() / weight_NM.sum().clamp_min(1)


def masked_info_nce(
    z_ND: Tensor, positive_NN: Tensor, negative_NN: Tensor, temperature: float
) -> Tensor:
    """Return the mean of the pair term over all positive pairs.

    Every pair has a denominator of its own: its positive and the negatives of its anchor.

    Args:
        z_ND: Projections; they need not have unit length.
        positive_NN: Row n, column m: how often m counts as a positive of anchor n.
        negative_NN: Boolean; a pair that is neither positive nor negative is not looked at.
        temperature: Divides the cosines.
    """
    logits_NN = cosine_logits(z_ND, z_ND, temperature)
    return mean_over(pair_terms(logits_NN, log_negatives(logits_NN, negative_NN)), positive_NN)


def ntxent(z_ND: Tensor, temperature: float, *, sample_N: Tensor | None = None) -> Tensor:
    """Return NT-Xent (Chen et al. 2020, eq. 1), averaged over anchors and their positives.

    Args:
        z_ND: Projections.
        temperature: Divides the cosines.
        sample_N: Which sample each row shows; without, rows are the first views of all samples
            and then, in the same order, the second views.
    """
    sample_N = two_views(len(z_ND), z_ND.device) if sample_N is None else sample_N
    return masked_info_nce(z_ND, *pairs_of_samples(sample_N), temperature)


def dcl(
    z_ND: Tensor,
    positive_NN: Tensor,
    negative_NN: Tensor,
    temperature: float,
    *,
    sigma: float | None = None,
) -> Tensor:
    """Return the decoupled loss: the positive is left out of its own denominator.

    Args:
        z_ND: Projections.
        positive_NN: As in :func:`masked_info_nce`.
        negative_NN: As there; a pair whose anchor has no negatives does not count.
        temperature: Divides the cosines.
        sigma: With it, positives that are far apart count more (DCLW): the attraction of a pair
            is multiplied by ``2 - e^{s/sigma} / mean(e^{s/sigma})``, the mean over all positive
            pairs (Yeh et al. 2022).
    """
    logits_NN = cosine_logits(z_ND, z_ND, temperature)
    positive_NN = positive_NN.to(logits_NN.dtype) * negative_NN.any(1, keepdim=True)
    pull_NN = logits_NN
    if sigma is not None:
        cosine_NN = logits_NN * temperature
        # Whatever is subtracted cancels in the ratio; with the largest nothing overflows.
        largest = cosine_NN.masked_fill(positive_NN == 0, NEVER).amax().detach()
        likeness_NN = ((cosine_NN - largest).clamp_max(0) / sigma).exp()
        mean = mean_over(likeness_NN, positive_NN)
        pull_NN = logits_NN * (2 - likeness_NN / torch.where(mean > 0, mean, 1))
    return mean_over(log_negatives(logits_NN, negative_NN) - pull_NN, positive_NN)


class Mixing(NamedTuple):
    """How hard negatives are mixed."""

    hardest: int
    """Negatives most like the anchor that are mixed; fewer where there are fewer."""
    mixed: int
    """Synthetic negatives per anchor between two of them."""
    with_anchor: int
    """Synthetic negatives per anchor between one of them and, less than half, the anchor."""


def mochi(
    z_ND: Tensor, positive_NN: Tensor, negative_NN: Tensor, temperature: float, mixing: Mixing
) -> Tensor:
    """Return NT-Xent with synthetic negatives (Kalantidis et al. 2020).

    They are drawn anew in each call, from torch's generator, and carry no gradient themselves.

    Args:
        z_ND: Projections.
        positive_NN: As in :func:`masked_info_nce`.
        negative_NN: As there.
        temperature: Divides the cosines.
        mixing: How many, of which.
    """
    logits_NN = cosine_logits(z_ND, z_ND, temperature)
    natural_N1 = log_negatives(logits_NN, negative_NN)
    synthetic_NSD = mix_hardest(z_ND, logits_NN, negative_NN, mixing)
    logits_NS = cosine_logits(z_ND[:, None], synthetic_NSD, temperature)[:, 0]
    both_N1 = torch.cat([natural_N1, logits_NS], dim=1).logsumexp(1, keepdim=True)
    return mean_over(pair_terms(logits_NN, both_N1), positive_NN)


@torch.no_grad()
def mix_hardest(z_ND: Tensor, logits_NN: Tensor, negative_NN: Tensor, mixing: Mixing) -> Tensor:
    """Return ``(N, mixed + with_anchor, D)`` synthetic negatives of every anchor, of unit length.

    There are none where some anchor has no negatives.
    """
    z_ND = unit_rows(z_ND.to(logits_NN.dtype))
    count = min(mixing.hardest, int(negative_NN.sum(1).min()))
    if not count:
        return z_ND.new_empty(len(z_ND), 0, z_ND.shape[1])
    hard_NH = logits_NN.masked_fill(~negative_NN, NEVER).topk(count, dim=1).indices

    def draw(how_many: int) -> Tensor:
        picked_NS = from_first(torch.randint(count, (len(z_ND), how_many), device=z_ND.device))
        return z_ND[hard_NH.gather(1, picked_NS)]

    def between(a_NSD: Tensor, b_NSD: Tensor, most: float) -> Tensor:
        share_NS1 = torch.rand(*b_NSD.shape[:2], 1, device=z_ND.device, dtype=z_ND.dtype)
        share_NS1 = from_first(share_NS1) * most
        return unit_rows(share_NS1 * a_NSD + (1 - share_NS1) * b_NSD)

    return torch.cat(
        [
            between(draw(mixing.mixed), draw(mixing.mixed), 1.0),
            between(z_ND[:, None], draw(mixing.with_anchor), 0.5),
        ],
        dim=1,
    )


def collapsed(pairs: Pairs, *, decoupled: bool = False, synthetic: int = 0) -> float:
    """Return the loss when all embeddings are equal: what an encoder blind to its input reaches.

    Then ``l(a, p; N) = log(1 + |N|)``, which is ``log(2B - 1)`` for NT-Xent on two views of B
    samples, and ``log |N|`` for the decoupled losses.

    Args:
        pairs: The pairs of the loss.
        decoupled: Whether it is :func:`dcl`.
        synthetic: Synthetic negatives per anchor, for :func:`mochi`.
    """
    negatives_N = pairs.negative_NN.sum(1).double()
    weight_N = pairs.positive_NN.sum(1).double()
    if decoupled:
        weight_N, negatives_N = weight_N * (negatives_N > 0), negatives_N.clamp_min(1) - 1
    elif synthetic and (negatives_N > 0).all():
        negatives_N = negatives_N + synthetic
    return float((weight_N * negatives_N.log1p()).sum() / weight_N.sum().clamp_min(1))


@torch.no_grad()
def pair_scores(z_ND: Tensor, pairs: Pairs) -> dict[str, Tensor]:
    """Return the mean cosine of the pairs that should be alike, and of those that should not."""
    cosine_NN = cosine_logits(z_ND, z_ND, 1.0)
    return {
        "positive_cosine": mean_over(cosine_NN, pairs.positive_NN),
        "negative_cosine": mean_over(cosine_NN, pairs.negative_NN),
    }
