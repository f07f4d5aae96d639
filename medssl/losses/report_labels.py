"""Findings that rules read from reports, as targets beside the contrast of images and texts.

Labels are cheap and wrong at times; findings of which a report says nothing, or nothing certain,
do not count.

Suffixes: B studies, F findings.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def known(label_BF: Tensor) -> Tensor:
    """Return which labels count: 1, present, and 0, absent; neither -1, uncertain, nor NaN."""
    return (label_BF == 0) | (label_BF == 1)


def report_label_loss(
    logits_BF: Tensor, label_BF: Tensor, positive_weight_F: Tensor | None = None
) -> Tensor:
    """Return the mean binary cross-entropy over the labels that count; 0 where none does.

    Args:
        logits_BF: What the model says.
        label_BF: 1 present, 0 absent, whatever else unknown.
        positive_weight_F: How much more a present finding counts; 1 without.
    """
    with torch.autocast(logits_BF.device.type, enabled=False):
        logits_BF = logits_BF.to(torch.promote_types(logits_BF.dtype, torch.float32))
        counts_BF = known(label_BF)
        target_BF = (label_BF == 1).to(logits_BF.dtype)
        cost_BF = F.binary_cross_entropy_with_logits(
            logits_BF, target_BF, pos_weight=positive_weight_F, reduction="none"
        )
        return (cost_BF * counts_BF).sum() / counts_BF.sum().clamp_min(1)


def best_constant(label_BF: Tensor, positive_weight_F: Tensor | None = None) -> float:
    """Return the lowest :func:`report_label_loss` that one probability per finding can reach.

    It is the entropy of each finding's share of present ones, the weights counted in, averaged
    over labels.
    """
    counts_BF = known(label_BF)
    present_F = (label_BF == 1).sum(0).double()
    absent_F = counts_BF.sum(0) - present_F
    if positive_weight_F is not None:
        present_F = present_F * positive_weight_F
    all_F = (present_F + absent_F).clamp_min(torch.finfo(torch.float64).tiny)
    cost_F = torch.xlogy(present_F, present_F / all_F) + torch.xlogy(absent_F, absent_F / all_F)
    return float(-cost_F.sum() / counts_BF.sum().clamp_min(1))
