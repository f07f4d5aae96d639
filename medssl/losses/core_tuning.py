"""Core-tuning: features of one class stay together while a classifier is fine-tuned on them.

Zhang et al., "Unleashing the Power of Contrastive Self-Supervised Visual Models via
Contrast-Regularized Fine-Tuning" (NeurIPS 2021, arXiv:2102.06605, sec. 4):

    L = L_ce^m + eta L_con^f

with a contrastive loss between samples of one class that looks at hard pairs, and a cross-entropy
that is smooth between classes, since it also sees features mixed of two.

Suffixes: N samples, D features, C classes, P features of a projection.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.losses.ntxent import NEVER, cosine_logits

Layer = Callable[[Tensor], Tensor]
LEAST_NEGATIVE_SHARE = 0.8
"""A hard negative is at least this much of another class."""


class Draw(NamedTuple):
    """All that is random about hard pairs."""

    positive_share_N: Tensor
    """Of the hardest positive in the mixed positive."""
    negative_share_N: Tensor
    """Of the other sample in the mixed negative."""
    other_N: Tensor
    """A sample of another class for every anchor; the anchor itself where there is none."""


class HardPairs(NamedTuple):
    """A positive and a negative made for every anchor."""

    positive_ND: Tensor
    positive_target_NC: Tensor
    negative_ND: Tensor
    negative_target_NC: Tensor


class CoreTuning(NamedTuple):
    """The two parts of the loss."""

    smooth: Tensor
    """L_ce^m."""
    contrast: Tensor
    """L_con^f."""


def draw(class_N: Tensor, alpha: float) -> Draw:
    """Draw the shares from Beta(alpha, alpha), and a negative per anchor, from torch's generator.

    Args:
        class_N: Class of every sample.
        alpha: 1 for shares that are uniform.
    """
    concentration_N = torch.full(class_N.shape, alpha, device=class_N.device)
    beta = torch.distributions.Beta(concentration_N, concentration_N)
    differs_NN = class_N[:, None] != class_N
    alone_N = ~differs_NN.any(1)
    itself_NN = torch.eye(len(class_N), dtype=torch.bool, device=class_N.device)
    weight_NN = (differs_NN | (alone_N[:, None] & itself_NN)).float()
    return Draw(
        beta.sample(),
        beta.sample().clamp_min(LEAST_NEGATIVE_SHARE),
        torch.multinomial(weight_NN, 1)[:, 0],
    )


def hard_pairs(z_ND: Tensor, class_N: Tensor, classes: int, drawn: Draw) -> HardPairs:
    """Return the mixed pairs of every anchor, and the mixed classes they belong to.

    Positive: ``s z_hp + (1 - s) z_hn`` of the sample of its class least like it and of that of
    another class most like it, by the cosine. Negative: ``s z_n + (1 - s) z`` of any sample of
    another class and of itself, ``s >= 0.8``. An anchor alone in its class is its own positive;
    where there is no other class nothing is mixed in.

    Args:
        z_ND: Features of the encoder.
        class_N: Their classes.
        classes: C.
        drawn: Shares and negatives.
    """
    with torch.no_grad():
        likeness_NN = cosine_logits(z_ND, z_ND, 1.0)
        same_NN = class_N[:, None] == class_N
        other_NN = same_NN & ~torch.eye(len(z_ND), dtype=torch.bool, device=z_ND.device)
        itself_N = torch.arange(len(z_ND), device=z_ND.device)
        far_N = likeness_NN.masked_fill(~other_NN, -NEVER).argmin(1)
        far_N = torch.where(other_NN.any(1), far_N, itself_N)
        near_N = likeness_NN.masked_fill(same_NN, NEVER).argmax(1)
        near_N = torch.where(same_NN.all(1), far_N, near_N)
    target_NC = _one_hot(class_N, classes, z_ND.dtype)

    def between(x: Tensor, first_N: Tensor, second_N: Tensor, share_N: Tensor) -> Tensor:
        share_N1 = share_N[:, None].to(x.dtype)
        return share_N1 * x[first_N] + (1 - share_N1) * x[second_N]

    positive = far_N, near_N, drawn.positive_share_N
    negative = drawn.other_N, itself_N, drawn.negative_share_N
    return HardPairs(
        between(z_ND, *positive),
        between(target_NC, *positive),
        between(z_ND, *negative),
        between(target_NC, *negative),
    )


def focal_contrast(
    v_NP: Tensor, positive_NP: Tensor, negative_NP: Tensor, class_N: Tensor, temperature: float
) -> Tensor:
    """Return ``-mean_i 1/|P_i| sum_{j in P_i} (1 - p_ij) log p_ij``, L_con^f.

    ``p_ij = e^{v_i v_j / T} / sum_{k in A_i} e^{v_i v_k / T}``: A_i are all other samples and the
    two made for anchor i, P_i those of its class and the positive made for it. Pairs that are
    alike already, with p near 1, hardly count.

    The authors' published code differs from this reading of their text: it compares mixed
    samples by their mixed classes, so that one is hardly ever a positive of another.

    Args:
        v_NP: Projections; they need not have unit length.
        positive_NP: Of the positives made for them.
        negative_NP: Of the negatives made for them.
        class_N: Classes of the samples.
        temperature: Divides the cosines.
    """
    logits_NN = cosine_logits(v_NP, v_NP, temperature)
    made_N2P = torch.stack([positive_NP, negative_NP], dim=1)
    logits_N2 = cosine_logits(v_NP[:, None], made_N2P, temperature)[:, 0]
    itself_NN = torch.eye(len(v_NP), dtype=torch.bool, device=v_NP.device)
    logits_NM = torch.cat([logits_NN.masked_fill(itself_NN, NEVER), logits_N2], dim=1)
    of_class_NN = (class_N[:, None] == class_N) & ~itself_NN
    made_N2 = torch.tensor([True, False], device=v_NP.device).expand(len(v_NP), -1)
    positive_NM = torch.cat([of_class_NN, made_N2], dim=1)
    log_p_NM = logits_NM.log_softmax(1).masked_fill(~positive_NM, 0.0)
    terms_NM = -(1 - log_p_NM.exp()) * log_p_NM
    return (terms_NM.sum(1) / positive_NM.sum(1)).mean()


def core_tuning(
    z_ND: Tensor,
    class_N: Tensor,
    drawn: Draw,
    *,
    classify: Layer,
    project: Layer,
    temperature: float,
) -> CoreTuning:
    """Return both parts of the loss; their sum, the second times eta, is to be minimised.

    The first is the mean cross-entropy over the samples and the pairs made of them, whose classes
    are as mixed as they are.

    Args:
        z_ND: Features of the encoder, before the head.
        class_N: Their classes.
        drawn: What :func:`draw` returns.
        classify: From features to logits ``(..., C)``.
        project: From features to what is contrasted, ``(..., P)``.
        temperature: Divides the cosines; 0.07 in the paper.
    """
    logits_NC = classify(z_ND)
    pairs = hard_pairs(z_ND, class_N, logits_NC.shape[1], drawn)
    logits = [logits_NC, classify(pairs.positive_ND), classify(pairs.negative_ND)]
    own_NC = _one_hot(class_N, logits_NC.shape[1], z_ND.dtype)
    targets = torch.cat([own_NC, pairs.positive_target_NC, pairs.negative_target_NC])
    v_NP, positive_NP, negative_NP = map(project, (z_ND, pairs.positive_ND, pairs.negative_ND))
    return CoreTuning(
        F.cross_entropy(torch.cat(logits).to(targets.dtype), targets),
        focal_contrast(v_NP, positive_NP, negative_NP, class_N, temperature),
    )


def _one_hot(class_N: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """In single precision at least, also for features of half."""
    return F.one_hot(class_N, classes).to(torch.promote_types(dtype, torch.float32))
