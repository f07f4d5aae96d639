"""Every organ of an image contrasted with what its report says of that organ.

fVLM (Shui et al. 2025, arXiv:2501.14548): label maps say which cells of the encoder's grid show an
organ, :class:`medssl.models.organ_attention.OrganAttention` makes one embedding of them, and each
organ has a contrastive loss of its own, in which all studies whose organ is normal belong together.

Suffixes: B studies, O organs, P cells of the grid.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.losses.image_text import pair_logits
from medssl.losses.ntxent import NEVER
from medssl.losses.pair_targets import FalseNegativePolicy, negatives, pair_targets

NORMAL_ARE_ALIKE = FalseNegativePolicy(both_normal="positive")
"""The published policy."""


class OrganFacts(NamedTuple):
    """What is known of the organs of a batch."""

    study_B: Tensor
    """Which study a row is of."""
    text_BO: Tensor
    """Equal where reports say the same of an organ."""
    normal_BO: Tensor
    """Boolean: the report finds nothing in the organ. False where that is not known."""
    present_BO: Tensor
    """Boolean: the organ is whole in the image, and the report speaks of it."""


def organ_cells(labels_BIJK: Tensor, organs: Sequence[int], grid: Sequence[int]) -> Tensor:
    """Return which cells of a grid hold any voxel of each organ, ``(B, O, P)``, boolean.

    An organ that touches the border of the image has no cells: part of it may be missing, and what
    its report says may be about that part. An axis of one voxel has no border.

    Args:
        labels_BIJK: Label maps, one number per organ.
        organs: The numbers.
        grid: Cells along every axis; they come in raster order.
    """
    masks = []
    for organ in organs:
        inside_BIJK = labels_BIJK == organ
        cut_B = torch.zeros_like(inside_BIJK[:, 0, 0, 0])
        for axis, size in enumerate(inside_BIJK.shape[1:], start=1):
            if size > 1:
                cut_B = cut_B | inside_BIJK.select(axis, 0).any((1, 2))
                cut_B = cut_B | inside_BIJK.select(axis, size - 1).any((1, 2))
        pooled = F.adaptive_max_pool3d(inside_BIJK[:, None].float(), tuple(grid))
        masks.append((pooled.flatten(1) > 0) & ~cut_B[:, None])
    return torch.stack(masks, dim=1)


def organ_alignment(
    image_BOD: Tensor,
    text_BOD: Tensor,
    facts: OrganFacts,
    scale: Tensor | float,
    policy: FalseNegativePolicy = NORMAL_ARE_ALIKE,
) -> Tensor:
    """Return the multi-positive loss of each organ over the studies that have it, averaged.

    An organ does not count in a batch in which no study has it abnormal, or in which no pair of
    studies is negative: there is nothing to tell apart. It is the whole batch, of all processes,
    that decides, so all decide alike; and organs that do not count stay in the graph with gradient
    0, so no process waits for another's gradients. 0 where none counts.

    Args:
        image_BOD: Unit vectors of the organs in the images.
        text_BOD: Unit vectors of what the reports say of them.
        facts: Of the whole batch, like the embeddings.
        scale: Multiplies the cosines.
        policy: Decides what two studies are, organ by organ.
    """
    study_OB = facts.study_B.expand(facts.text_BO.T.shape)
    targets = pair_targets(policy, study_OB, facts.text_BO.T, facts.normal_BO.T)
    present_OB = facts.present_BO.T
    both_OBB = present_OB[:, :, None] & present_OB[:, None, :]
    negative_OBB = negatives(targets) & both_OBB
    abnormal_OB = present_OB & ~facts.normal_BO.T
    counts_O = abnormal_OB.any(1) & negative_OBB.any((1, 2))
    logits_OBB = pair_logits(image_BOD.transpose(0, 1), text_BOD.transpose(0, 1), scale)
    logits_OBB = logits_OBB.masked_fill(targets.ignored_BB | ~both_OBB, NEVER)
    weight_OBB = targets.weight_BB.to(logits_OBB.dtype) * both_OBB
    there_O = _one_way(logits_OBB, weight_OBB, present_OB)
    back_O = _one_way(logits_OBB.mT, weight_OBB.mT, present_OB)
    return ((there_O + back_O) * counts_O).sum() / (2 * counts_O.sum().clamp_min(1))


def _one_way(logits_OBB: Tensor, weight_OBB: Tensor, present_OB: Tensor) -> Tensor:
    """Return each organ's mean cross-entropy over its rows."""
    shares_OBB = weight_OBB / weight_OBB.sum(-1, keepdim=True).clamp_min(1)
    cost_OB = -(shares_OBB * logits_OBB.log_softmax(-1)).sum(-1)
    return cost_OB.sum(-1) / present_OB.sum(-1).clamp_min(1)
