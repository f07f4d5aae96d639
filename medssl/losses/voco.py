"""VoCo: how much each random crop overlaps each base crop, told from embeddings alone.

Wu et al., "VoCo" (CVPR 2024, arXiv:2402.17300) and "Large-Scale 3D Medical Image Pre-training
with Geometric Context Priors" (TPAMI 2025, arXiv:2410.09890). Three different objectives carry
the name: ``paper``, ``released`` and ``large_scale``, assembled here from the parts they share.

Suffixes: B volumes, N random crops per volume, K base crops per volume, D embedding.
"""

from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from medssl.config.base import Config

Variant = Literal["paper", "released", "large_scale"]
Weight = Annotated[float, Field(ge=0)]


class Terms(Config):
    """What each part of the objective counts, and what keeps logarithms and shares finite.

    With the defaults, which are the published values, every part counts as it is.
    """

    positive: Weight = 1.0
    """Weight of pairs that overlap."""
    negative: Weight = 1.0
    """Weight of pairs that do not."""
    inter: Weight = 1.0
    """Weight of the agreement on crops of another volume; `large_scale` only."""
    regulariser: Weight = 1.0
    """Weight of the part that keeps base crops apart."""
    eps: Annotated[float, Field(gt=0)] = 1e-6
    """Added inside every logarithm, and to what every mean over pairs is divided by."""


PUBLISHED = Terms()


class _Measured(NamedTuple):
    """Vectors and their lengths, so that no normalised copy of them is made."""

    z_BND: Tensor
    length_BN1: Tensor

    def detach(self) -> "_Measured":
        return _Measured(self.z_BND.detach(), self.length_BN1.detach())

    def roll(self) -> "_Measured":
        """Give every volume the vectors of the one before it."""
        return _Measured(self.z_BND.roll(1, 0), self.length_BN1.roll(1, 0))


_SHORTEST = 1e-12
"""Stands in for the length of a vector of zeros."""


def _measured(z_BND: Tensor) -> _Measured:
    length_BN1 = torch.linalg.vector_norm(z_BND, dim=-1, keepdim=True)
    return _Measured(z_BND, length_BN1.clamp_min(_SHORTEST))


def _cosine(a: _Measured, b: _Measured) -> Tensor:
    # At most 1: products in TF32 round beyond it, and 1 - s stands inside a logarithm.
    return ((a.z_BND @ b.z_BND.mT) / (a.length_BN1 * b.length_BN1.mT)).clamp_max(1)


class Projections(NamedTuple):
    """Projected embeddings of the crops of a batch of volumes."""

    random_BND: Tensor
    base_BKD: Tensor

    def detach(self) -> "Projections":
        """Return the same values without gradient."""
        return Projections(self.random_BND.detach(), self.base_BKD.detach())


def overlap_loss(
    prediction_BNK: Tensor,
    labels_BNK: Tensor,
    *,
    negative: Literal["log", "square"],
    weighted: bool = True,
    eps: float = PUBLISHED.eps,
) -> Tensor:
    """Compare predicted overlaps with true ones, per volume.

    Overlapping pairs cost ``-log(1 - |y - s|)``; pairs that do not overlap cost ``-log(1 - s)``
    (large_scale) or ``s^2`` (paper, released). Each kind is averaged by its own weight.

    Args:
        prediction_BNK: ``s``, the predicted overlap ``relu(cos(random, base))``, ``(B, N, K)``.
        labels_BNK: ``y``, true overlap as a fraction of a crop's volume; rows sum to 1.
        negative: The penalty of pairs that do not overlap.
        weighted: Weigh overlapping pairs by ``y``; if not, they count alike (paper).
        eps: As in :class:`Terms`.

    Returns:
        ``(B, 2)``: the positive and the negative term of each volume.
    """
    distance_BNK = (labels_BNK - prediction_BNK).abs()
    weight_BNK = labels_BNK if weighted else (labels_BNK > 0).to(distance_BNK.dtype)
    positive_B = (weight_BNK * -torch.log(1 - distance_BNK + eps)).sum((1, 2)) / (
        weight_BNK.sum((1, 2)) + eps
    )
    apart_BNK = (labels_BNK == 0).to(prediction_BNK.dtype)
    if negative == "log":
        penalty_BNK = -torch.log(1 - prediction_BNK + eps)
    else:
        penalty_BNK = prediction_BNK.square()
    # The published code counts pairs in float32, where adding eps rounds; so do we, for parity.
    count_B = (labels_BNK == 0).sum((1, 2)).float() + eps
    negative_B = (apart_BNK * penalty_BNK).sum((1, 2)) / count_B
    return torch.stack([positive_B, negative_B], dim=1)


def base_regulariser(base_BKD: Tensor, *, asymmetric: bool) -> Tensor:
    """Push the base crops of a volume apart: mean of ``relu(cos(b_k, b_l))^2`` over k < l.

    Args:
        base_BKD: Projections of the base crops of each volume.
        asymmetric: Stop the gradient of the second crop of each pair, as the published code
            does. Crop 0 is then pushed most and the last crop not at all; the value is the same.

    Returns:
        ``(B,)``.
    """
    return _regulariser(_measured(base_BKD), asymmetric)


def paper(
    z: Projections, labels_BNK: Tensor, *, asymmetric: bool, terms: Terms = PUBLISHED
) -> dict[str, Tensor]:
    """Return the parts of the objective of the CVPR 2024 paper, each averaged over volumes.

    There is no teacher: random crops are placed among base crops through which no gradient flows,
    and base crops learn from the regulariser alone. Overlapping pairs count alike.

    Args:
        z: Projections of all crops.
        labels_BNK: True overlaps.
        asymmetric: As in :func:`base_regulariser`.
        terms: Weights of the parts; the parts returned add up to the loss.
    """
    random, base = map(_measured, z)
    prediction_BNK = _cosine(random, base.detach()).relu()
    parts = _overlap("paper", prediction_BNK, labels_BNK, terms)
    return parts | _regularization(base, asymmetric, terms)


def released(
    student: Projections,
    teacher: Projections,
    labels_BNK: Tensor,
    *,
    asymmetric: bool,
    terms: Terms = PUBLISHED,
) -> dict[str, Tensor]:
    """Return the parts of the objective of the released CVPR 2024 code.

    Predictions are the mean of student against teacher and teacher against student, and
    overlapping pairs are weighted by how much they overlap.

    Args:
        student: Projections that receive the gradient.
        teacher: The momentum projections of the same crops; no gradient flows into them.
        labels_BNK: True overlaps.
        asymmetric: As in :func:`base_regulariser`.
        terms: Weights of the parts; the parts returned add up to the loss.
    """
    random, base = map(_measured, student)
    taught, taught_base = map(_measured, teacher.detach())
    prediction_BNK = 0.5 * (_cosine(random, taught_base).relu() + _cosine(taught, base).relu())
    parts = _overlap("released", prediction_BNK, labels_BNK, terms)
    return parts | _regularization(base, asymmetric, terms)


def large_scale(
    student: Projections,
    teacher: Projections,
    labels_BNK: Tensor,
    *,
    asymmetric: bool,
    terms: Terms = PUBLISHED,
) -> dict[str, Tensor]:
    """Return the parts of the large-scale objective (TPAMI 2025), each averaged over volumes.

    ``intra`` places each crop among the base crops of its own volume, ``inter`` asks student and
    teacher to agree on how it relates to those of the next volume of the batch, and
    ``regularization`` keeps base crops apart. Arguments as in :func:`released`.
    """
    random, base = map(_measured, student)
    taught, taught_base = map(_measured, teacher.detach())
    intra_BNK = _cosine(random, taught_base).relu()
    agreed_BNK = _cosine(taught.roll(), taught_base).relu()
    inter_BNK = _cosine(random.roll(), base).relu()
    intra = _overlap("large_scale", intra_BNK, labels_BNK, terms)["intra"]
    inter = _overlap("large_scale", inter_BNK, agreed_BNK, terms)["intra"]
    parts = {"intra": intra, "inter": terms.inter * inter}
    return parts | _regularization(base, asymmetric, terms)


def _overlap(
    variant: Variant, prediction_BNK: Tensor, labels_BNK: Tensor, terms: Terms
) -> dict[str, Tensor]:
    """Return the weighted parts that compare predicted overlaps with true ones."""
    positive, negative = overlap_loss(
        prediction_BNK,
        labels_BNK,
        negative="log" if variant == "large_scale" else "square",
        weighted=variant != "paper",
        eps=terms.eps,
    ).mean(0)
    positive, negative = terms.positive * positive, terms.negative * negative
    if variant == "large_scale":
        return {"intra": positive + negative}
    return {"positive": positive, "negative": negative}


def _regularization(base: _Measured, asymmetric: bool, terms: Terms) -> dict[str, Tensor]:
    regulariser = _regulariser(base, asymmetric).mean()
    return {"regularization": terms.regulariser * regulariser}


def _regulariser(base: _Measured, asymmetric: bool) -> Tensor:
    cosine_BKK = _cosine(base, base.detach() if asymmetric else base)
    count = cosine_BKK.shape[1]
    return cosine_BKK.relu().square().triu(1).sum((1, 2)) / (count * (count - 1) / 2)


_GOLDEN = (5**0.5 - 1) / 2
_SECTIONS = 60
"""Steps of the golden section that leave 3e-13 of [0, 1]."""


@torch.no_grad()
def best_constant(
    variant: Variant, labels_BNK: Tensor, terms: Terms = PUBLISHED
) -> dict[str, float]:
    """Return the parts of the lowest loss that one predicted overlap for every pair can reach.

    It is what a collapsed encoder converges to, so training has learned something only below it.
    The labels alone decide it. Every penalty is convex in the prediction, so their sum over the
    pairs has one minimum, which a golden section closes in on; the negative and the positive part
    are those at the minimum of their sum.

    Args:
        variant: The objective.
        labels_BNK: True overlaps.
        terms: Weights of the parts.
    """
    labels_BNK = labels_BNK.double().cpu()

    def parts(constant: float) -> dict[str, float]:
        found = _overlap(variant, torch.full_like(labels_BNK, constant), labels_BNK, terms)
        return {name: float(value) for name, value in found.items()}

    low, high = 0.0, 1.0
    for _ in range(_SECTIONS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if sum(parts(left).values()) <= sum(parts(right).values()):
            high = right
        else:
            low = left
    return parts((low + high) / 2)
