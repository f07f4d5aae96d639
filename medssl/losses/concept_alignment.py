"""Concepts that a text names, found somewhere in the image: the patch-concept loss of ConceptCLIP.

Nie et al. 2025 (arXiv:2501.15579): a concept is the mean of its tokens; it is in an image as far
as its best place says so; every pair of an image and a concept of the batch is judged for itself,
as in SigLIP. Here an image whose own text names an equal concept has it too, whichever text of the
batch the concept was taken from.

Suffixes: B images and their texts, C the texts again, K concepts of a text, L tokens, P places,
D features.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.losses.local_alignment import Parts, gather_parts
from medssl.losses.ntxent import NEVER, cosine_logits
from medssl.losses.pair_targets import PairTargets

NO_CONCEPT = -1


class Concepts(NamedTuple):
    """The concepts that texts say are there; what they say is absent is no concept of theirs."""

    z_BKD: Tensor
    """Embeddings, such as :func:`span_means`; they need not have unit length."""
    code_BK: Tensor
    """Equal for equal concepts; :data:`NO_CONCEPT` where a text has fewer than the most."""


def gather_concepts(concepts: Concepts) -> Concepts:
    """Return the concepts of all processes; what pads them is no concept."""
    z_BKD, number_BK = gather_parts(Parts(concepts.z_BKD, concepts.code_BK - NO_CONCEPT))
    return Concepts(z_BKD, number_BK + NO_CONCEPT)


def concept_alignment(
    places: Parts,
    concepts: Concepts,
    targets: PairTargets,
    scale: Tensor | float,
    bias: Tensor | float,
) -> Tensor:
    """Return the binary cross-entropy of all images with all concepts, over the concepts.

    A concept is positive for the images whose texts name it or an equal one, and as far as the
    image and the concept's text belong together; where that pair is ignored and the image's own
    text does not name it, it does not count. 0, with gradient 0, without any concept.

    Args:
        places: Of the images.
        concepts: Of their texts.
        targets: Which images and texts belong together.
        scale: Multiplies the cosines.
        bias: Added to the logits.
    """
    sizes = (*concepts.code_BK.shape, *places.mask_BN.shape)
    flat_concepts, flat_places = concepts.z_BKD.flatten(0, 1), places.z_BND.flatten(0, 1)
    cosine_CKBP = cosine_logits(flat_concepts, flat_places, 1.0).view(sizes)
    best_CKB = cosine_CKBP.masked_fill(~places.mask_BN, NEVER).amax(-1)
    there_CK1 = (concepts.code_BK != NO_CONCEPT)[:, :, None]
    named_CKB = _named(concepts.code_BK)
    wanted_CKB = torch.where(named_CKB, 1.0, targets.weight_BB.T[:, None]).to(best_CKB.dtype)
    counts_CKB = there_CK1 & (named_CKB | ~targets.ignored_BB.T[:, None])
    counts_CKB = counts_CKB & places.mask_BN.any(1)
    logits_CKB = (scale * best_CKB + bias).masked_fill(~counts_CKB, 0)
    cost_CKB = F.binary_cross_entropy_with_logits(logits_CKB, wanted_CKB, reduction="none")
    return (cost_CKB * counts_CKB).sum() / there_CK1.sum().clamp_min(1)


def _named(code_BK: Tensor) -> Tensor:
    """Return whether the text of image b names the concept k of text c, ``(C, K, B)``."""
    different, which_CK = torch.unique(code_BK, return_inverse=True)
    names_BU = torch.zeros(len(code_BK), len(different), dtype=torch.bool, device=code_BK.device)
    names_BU.scatter_(1, which_CK, value=True)
    return names_BU.T[which_CK]


def tokens_of_spans(offsets_BL2: Tensor, span_BK2: Tensor) -> Tensor:
    """Return which tokens have a character in which span, ``(B, K, L)``.

    Spans in characters suit every tokenizer; indices of tokens are those of one.

    Args:
        offsets_BL2: First character of each token and the one after its last; equal where a token
            stands for no character.
        span_BK2: The same of each span.
    """
    first_BK1, end_BK1 = span_BK2[..., :1], span_BK2[..., 1:]
    token_first_B1L, token_end_B1L = offsets_BL2.mT[:, :1], offsets_BL2.mT[:, 1:]
    overlap = (token_first_B1L < end_BK1) & (token_end_B1L > first_BK1)
    return overlap & (token_first_B1L < token_end_B1L)


def span_means(states_BLD: Tensor, inside_BKL: Tensor) -> Tensor:
    """Return the mean state of the tokens of each span, ``(B, K, D)``; 0 for one without tokens."""
    inside_BKL = inside_BKL.to(states_BLD.dtype)
    return inside_BKL @ states_BLD / inside_BKL.sum(2, keepdim=True).clamp_min(1)
