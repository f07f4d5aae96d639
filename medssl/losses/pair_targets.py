"""Which images and reports of a batch belong together, beside those of one study.

Reports repeat: many studies share one text, and many more say in other words that nothing was
found. To call such pairs negatives teaches a model to tell apart what is the same. One policy
says what they are, and every loss of images and texts asks it.

Suffixes: B studies, F findings; ``...`` are axes that are worked on alone, such as organs.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from medssl.config.base import Config
from medssl.errors import InputError

Kind = Literal["positive", "ignore", "negative"]


class FalseNegativePolicy(Config):
    """What a pair of an image and the report of another row is.

    Where several reasons apply, one that makes it positive goes before one to ignore it, and that
    before shared findings. Without any reason the pair is negative.
    """

    same_study: Kind = "positive"
    """Image and report of one study that is twice in a batch."""
    same_text: Kind = "positive"
    """Studies whose reports have the same words."""
    both_normal: Kind = "ignore"
    """Studies whose reports both find nothing. `positive` as in fVLM (arXiv:2501.14548)."""
    label_overlap: Literal["soft", "ignore", "off"] = "off"
    """Studies that share findings: `soft`, a positive that counts as much as findings overlap."""
    least_overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Findings that both have over those that either has, from which on that holds."""


class PairTargets(NamedTuple):
    """What each image of a batch, a row, and each text of it, a column, are to each other."""

    weight_BB: Tensor
    """How much a pair counts as positive, from 0 to 1; 1 on the diagonal. Rows do not sum to 1."""
    ignored_BB: Tensor
    """Boolean: neither positive nor negative; never on the diagonal. Their weight is 0."""


def codes(keys: Iterable[str]) -> Tensor:
    """Return a number for each key, ``(B,)`` int64: equal for equal keys, in every process."""
    digests = (hashlib.sha256(key.encode()).digest() for key in keys)
    return torch.tensor([int.from_bytes(d[:8], "big", signed=True) for d in digests])


def pair_targets(
    policy: FalseNegativePolicy,
    study_B: Tensor,
    text_B: Tensor,
    normal_B: Tensor,
    label_BF: Tensor | None = None,
) -> PairTargets:
    """Return what every pair of a batch is.

    Args:
        policy: Decides.
        study_B: Which study a row is of, ``(..., B)``, such as :func:`codes` of its key.
        text_B: Which text it has, such as :func:`codes` of its digest.
        normal_B: Boolean: its report finds nothing. False where that is not known.
        label_BF: 1 where a finding is present; whatever else, such as 0, -1 or NaN, is not.
            Needed for ``label_overlap``.

    Raises:
        InputError: The policy asks for labels and there are none.
    """
    rows = study_B.shape[-1]
    own_BB = torch.eye(rows, dtype=torch.bool, device=study_B.device).expand(*study_B.shape, rows)
    positive_BB, ignored_BB = own_BB, torch.zeros_like(own_BB)
    for kind, alike_BB in (
        (policy.same_study, _equal(study_B)),
        (policy.same_text, _equal(text_B)),
        (policy.both_normal, normal_B[..., :, None] & normal_B[..., None, :]),
    ):
        if kind == "positive":
            positive_BB = positive_BB | alike_BB
        elif kind == "ignore":
            ignored_BB = ignored_BB | alike_BB
    weight_BB = positive_BB.float()
    if policy.label_overlap != "off":
        if label_BF is None:
            raise InputError(
                f"label_overlap is {policy.label_overlap}, and the pairs have no labels",
                hint="label the reports first, or set label_overlap to off",
            )
        overlap_BB = label_overlap(label_BF)
        enough_BB = overlap_BB >= policy.least_overlap
        if policy.label_overlap == "ignore":
            ignored_BB = ignored_BB | enough_BB
        else:
            soft_BB = overlap_BB * (enough_BB & ~ignored_BB)
            weight_BB = torch.where(positive_BB, weight_BB, soft_BB)
    ignored_BB = ignored_BB & ~positive_BB
    return PairTargets(weight_BB, ignored_BB)


def label_overlap(label_BF: Tensor) -> Tensor:
    """Return findings present in both over those present in either, ``(..., B, B)``.

    It is 0 where neither has any: that two reports find nothing is another reason.
    """
    present_BF = (label_BF == 1).float()
    count_B = present_BF.sum(-1)
    both_BB = present_BF @ present_BF.mT
    return both_BB / (count_B[..., :, None] + count_B[..., None, :] - both_BB).clamp_min(1)


def negatives(targets: PairTargets) -> Tensor:
    """Return which pairs are to be pushed apart, ``(..., B, B)``."""
    return (targets.weight_BB == 0) & ~targets.ignored_BB


def false_negative_rate(targets: PairTargets) -> Tensor:
    """Return the share of rows with at least one pair that is no negative, beside their own.

    Without a policy all of these would be pushed apart.
    """
    own_BB = torch.eye(len(targets.weight_BB), dtype=torch.bool, device=targets.weight_BB.device)
    others_BB = ((targets.weight_BB > 0) | targets.ignored_BB) & ~own_BB
    return others_BB.any(1).float().mean()


def _equal(code_B: Tensor) -> Tensor:
    return code_B[..., :, None] == code_B[..., None, :]
