"""Places of images and parts of texts, compared so that each finds its best counterpart.

Two ways from all pairs of places and parts to one score of an image with a text: the symmetric
local alignment of MaMA (Du et al. 2024, arXiv:2409.18119), where a part is as good as its best
place and a place as good as its best part; and the attention of GLoRIA (Huang et al., ICCV 2021),
where every word looks at the places it means. The scores are the logits of a contrastive loss.

All pairs are held at once: ``B * B * P * S`` numbers.

Suffixes: B images and their texts, as rows of a score; C the same texts, as its columns; P places,
S parts (sentences or words), D features.
"""

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from medssl.config.base import Config
from medssl.losses.gather import gather_rows
from medssl.losses.image_text import ImageTextLoss, contrast
from medssl.losses.ntxent import NEVER, cosine_logits
from medssl.losses.pair_targets import PairTargets

Positive = Annotated[float, Field(gt=0)]
_SHORTEST = 1e-12
"""Stands in for the squared length of a vector of zeros."""


class Parts(NamedTuple):
    """Places of images, or sentences or words of texts; rows have fewer than the most, or none."""

    z_BND: Tensor
    """Embeddings in the space that images and texts share; they need not have unit length."""
    mask_BN: Tensor
    """Boolean: what is there. What a row of padding holds does not matter."""


def gather_parts(parts: Parts) -> Parts:
    """Return the parts of all processes, which may have padded to different lengths."""
    z_BND, mask_BN = parts
    most = int(gather_rows(torch.tensor([mask_BN.shape[1]], device=mask_BN.device)).max())
    lacking = most - mask_BN.shape[1]
    return Parts(
        gather_rows(F.pad(z_BND, (0, 0, 0, lacking))), gather_rows(F.pad(mask_BN, (0, lacking)))
    )


class WordRegion(Config):
    """The constants of GLoRIA's attention, as published."""

    attention: Positive = 4.0
    """Multiplies a word's attention before the softmax over places."""
    matching: Positive = 5.0
    """Multiplies the cosines of words before their exponentials are added."""
    contrast: Positive = 10.0
    """Multiplies the scores."""


def symmetric_local(
    places: Parts,
    sentences: Parts,
    targets: PairTargets,
    scale: Tensor | float,
    loss: ImageTextLoss | None = None,
) -> Tensor:
    """Return the mean of the losses of both scores of :func:`best_counterparts`.

    Args:
        places: Of the images.
        sentences: Of their texts.
        targets: Which images and texts belong together.
        scale: Multiplies the scores.
        loss: Which contrastive loss; multi-positive without.
    """
    loss = loss or ImageTextLoss()
    of_texts_BC, of_images_BC = best_counterparts(places, sentences)
    of_texts = contrast(loss, scale * of_texts_BC, targets)
    return (of_texts + contrast(loss, scale * of_images_BC, targets)) / 2


def best_counterparts(places: Parts, sentences: Parts) -> tuple[Tensor, Tensor]:
    """Return two scores of each image with each text, ``(B, C)``, from the cosines of their parts.

    Returns:
        The mean over a text's sentences of the cosine with the best place; and the mean over an
        image's places of the cosine with the best sentence. 0 for an image without places and for
        a text without sentences.
    """
    sizes = (*places.mask_BN.shape, *sentences.mask_BN.shape)
    flat_places, flat_sentences = places.z_BND.flatten(0, 1), sentences.z_BND.flatten(0, 1)
    cosine_BPCS = cosine_logits(flat_places, flat_sentences, 1.0).view(sizes)
    place_BP11 = places.mask_BN[:, :, None, None]
    sentence_CS = sentences.mask_BN
    of_sentences_BCS = _best(cosine_BPCS, place_BP11, -3)
    of_places_BPC = _best(cosine_BPCS, sentence_CS, -1)
    return (
        _mean(of_sentences_BCS, sentence_CS, -1),
        _mean(of_places_BPC, places.mask_BN[:, :, None], -2),
    )


def _best(x: Tensor, mask: Tensor, dim: int) -> Tensor:
    best = x.masked_fill(~mask, NEVER).max(dim).values
    return best.masked_fill(~mask.any(dim), 0)


def _mean(x: Tensor, mask: Tensor, dim: int) -> Tensor:
    return (x * mask).sum(dim) / mask.sum(dim).clamp_min(1)


def word_region(
    places: Parts,
    words: Parts,
    targets: PairTargets,
    constants: WordRegion | None = None,
    loss: ImageTextLoss | None = None,
) -> Tensor:
    """Return the loss of :func:`word_region_scores`; the paper adds both ways, this is their mean.

    Args:
        places: Of the images.
        words: Of their texts.
        targets: Which images and texts belong together.
        constants: As published without.
        loss: Which contrastive loss; multi-positive without.
    """
    constants = constants or WordRegion()
    scores_BC = word_region_scores(places, words, constants)
    return contrast(loss or ImageTextLoss(), constants.contrast * scores_BC, targets)


def word_region_scores(places: Parts, words: Parts, constants: WordRegion) -> Tensor:
    """Return how well each image answers the words of each text, ``(B, C)``.

    The inner products of places and words pass a softmax over the text's words and then, times
    ``attention``, one over the image's places; with these weights every word gets the mean of the
    places it means. A score is the logarithm of the sum over words of ``e^{matching * cosine}`` of
    word and mean. 0 for a text without words.
    """
    with torch.autocast(places.z_BND.device.type, enabled=False):
        dtype = torch.promote_types(places.z_BND.dtype, torch.float32)
        z_BPD, word_CSD = places.z_BND.to(dtype), words.z_BND.to(dtype)
        word_C1S, place_B11P = words.mask_BN[:, None], places.mask_BN[:, None, None]
        inner_BCSP = torch.einsum("bpd,csd->bcsp", z_BPD, word_CSD)
        of_words = inner_BCSP.masked_fill(~word_C1S.mT, NEVER).softmax(2)
        weight_BCSP = (of_words * constants.attention).masked_fill(~place_B11P, NEVER).softmax(3)
        inner_BCS = (weight_BCSP * inner_BCSP).sum(3)
        # The length of a weighted mean of places, without the mean itself: it would be D wide.
        gram_B1PP = (z_BPD @ z_BPD.mT)[:, None]
        squared_BCS = ((weight_BCSP @ gram_B1PP) * weight_BCSP).sum(3)
        squared_BCS = squared_BCS * word_CSD.square().sum(2)
        cosine_BCS = inner_BCS / squared_BCS.clamp_min(_SHORTEST).sqrt()
        there_CS = words.mask_BN
        answers_BCS = (constants.matching * cosine_BCS).masked_fill(~there_CS, NEVER)
        return answers_BCS.logsumexp(2).masked_fill(~there_CS.any(1), 0)
