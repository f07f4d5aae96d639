"""VoCo: how much each random crop overlaps each base crop, told from embeddings alone.

Wu et al., "VoCo" (CVPR 2024, arXiv:2402.17300) and "Large-Scale 3D Medical Image Pre-training
with Geometric Context Priors" (TPAMI 2025, arXiv:2410.09890). Three different objectives carry
the name; the functions here are the parts they share, and ``medssl.methods.voco`` assembles them.

Suffixes: B volumes, N random crops per volume, K base crops per volume, D embedding.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-6


class Projections(NamedTuple):
    """Projected embeddings of the crops of a batch of volumes."""

    random_BND: Tensor
    base_BKD: Tensor


def overlap_prediction(z_BND: Tensor, base_BKD: Tensor) -> Tensor:
    """Return the predicted overlap ``relu(cos(z, base))`` of every crop with every base crop.

    Args:
        z_BND: Projections of the random crops of each volume.
        base_BKD: Projections of the base crops they are compared with.

    Returns:
        ``(B, N, K)`` in [0, 1].
    """
    z_BND, base_BKD = F.normalize(z_BND, dim=-1), F.normalize(base_BKD, dim=-1)
    return (z_BND @ base_BKD.mT).relu()


def overlap_loss(
    prediction_BNK: Tensor, labels_BNK: Tensor, *, negative: Literal["log", "square"]
) -> Tensor:
    """Compare predicted overlaps with true ones, per volume.

    Overlapping pairs cost ``-log(1 - |y - s|)`` weighted by ``y``; pairs that do not overlap cost
    ``-log(1 - s)`` (large_scale) or ``s^2`` (released). Each kind is averaged by its own weight.

    Args:
        prediction_BNK: ``s``, from :func:`overlap_prediction`.
        labels_BNK: ``y``, true overlap as a fraction of a crop's volume; rows sum to 1.
        negative: The penalty of pairs that do not overlap.

    Returns:
        ``(B, 2)``: the positive and the negative term of each volume.
    """
    distance_BNK = (labels_BNK - prediction_BNK).abs()
    positive_B = (labels_BNK * -torch.log(1 - distance_BNK + EPS)).sum((1, 2)) / (
        labels_BNK.sum((1, 2)) + EPS
    )
    apart_BNK = (labels_BNK == 0).to(prediction_BNK.dtype)
    if negative == "log":
        penalty_BNK = -torch.log(1 - prediction_BNK + EPS)
    else:
        penalty_BNK = prediction_BNK.square()
    # The published code counts pairs in float32, where adding EPS rounds; so do we, for parity.
    count_B = (labels_BNK == 0).sum((1, 2)).float() + EPS
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
    base_BKD = F.normalize(base_BKD, dim=-1)
    other_BKD = base_BKD.detach() if asymmetric else base_BKD
    count = base_BKD.shape[1]
    first, second = torch.triu_indices(count, count, offset=1, device=base_BKD.device)
    similarity_BKK = (base_BKD @ other_BKD.mT).relu()
    return similarity_BKK[:, first, second].square().mean(dim=1)


def large_scale(
    student: Projections, teacher: Projections, labels_BNK: Tensor, *, asymmetric: bool
) -> dict[str, Tensor]:
    """Return the parts of the large-scale objective (TPAMI 2025), each averaged over volumes.

    ``intra`` places each crop among the base crops of its own volume, ``inter`` asks student and
    teacher to agree on how it relates to those of the next volume of the batch, and
    ``regularization`` keeps base crops apart. Their sum, with weights 1, is the loss.

    Args:
        student: Projections that receive the gradient.
        teacher: The momentum projections of the same crops; no gradient flows into them.
        labels_BNK: True overlaps.
        asymmetric: As in :func:`base_regulariser`.
    """
    teacher = Projections(teacher.random_BND.detach(), teacher.base_BKD.detach())
    intra_BNK = overlap_prediction(student.random_BND, teacher.base_BKD)
    agreed_BNK = overlap_prediction(teacher.random_BND, teacher.base_BKD.roll(-1, 0))
    inter_BNK = overlap_prediction(student.random_BND, student.base_BKD.roll(-1, 0))
    return {
        "intra": overlap_loss(intra_BNK, labels_BNK, negative="log").sum(1).mean(),
        "inter": overlap_loss(inter_BNK, agreed_BNK, negative="log").sum(1).mean(),
        "regularization": base_regulariser(student.base_BKD, asymmetric=asymmetric).mean(),
    }


def released(
    student: Projections, teacher: Projections, labels_BNK: Tensor, *, asymmetric: bool
) -> dict[str, Tensor]:
    """Return the parts of the objective of the released CVPR 2024 code; arguments as above.

    Predictions are the mean of student against teacher and teacher against student.
    """
    teacher = Projections(teacher.random_BND.detach(), teacher.base_BKD.detach())
    prediction_BNK = 0.5 * (
        overlap_prediction(student.random_BND, teacher.base_BKD)
        + overlap_prediction(teacher.random_BND, student.base_BKD)
    )
    positive, negative = overlap_loss(prediction_BNK, labels_BNK, negative="square").mean(0)
    regulariser = base_regulariser(student.base_BKD, asymmetric=asymmetric).mean()
    return {"positive": positive, "negative": negative, "regularization": regulariser}


def best_constant_intra(labels_BNK: Tensor, *, candidates: int = 2001) -> float:
    """Return the lowest large-scale ``intra`` loss that one number for every pair can reach.

    It is what a collapsed encoder converges to, so training has learned something only below it.
    The labels alone decide it. The constant is searched on an even grid over [0, 1].

    Args:
        labels_BNK: True overlaps.
        candidates: How many constants are tried.
    """
    labels = labels_BNK.double()
    return min(
        float(overlap_loss(torch.full_like(labels, c), labels, negative="log").sum(1).mean())
        for c in torch.linspace(0, 1, candidates, dtype=torch.float64).tolist()
    )
