"""How close positives are, and how evenly embeddings cover the sphere.

Wang and Isola 2020 (arXiv:2005.10242): on unit vectors, alignment is E |x - y|^2 over positive
pairs, and uniformity log E e^{-2 |x - y|^2} over pairs of different rows. Both are better when
lower; a collapsed encoder has alignment 0 and uniformity 0. For dense maps, rows are features of
places, and uniformity within an image tells whether its places differ, across images whether
images do.

Images and texts that are told apart by a contrastive loss alone gather in two distant corners of
the sphere. Fahim, Murphy and Fyshe 2024 (arXiv:2405.18570) close this contrastive gap by adding
the alignment of pairs, the uniformity of images and of texts, and that between the two.

Suffixes: N rows, P images (or pairs of views), B pairs of an image and a text, D features.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.losses.ntxent import NEVER, cosine_logits, mean_over

SHARPNESS = 2.0


def squared_distances(a_ND: Tensor, b_MD: Tensor) -> Tensor:
    """Return ``|x - y|^2`` of the unit vectors of all rows, ``(..., N, M)``."""
    return 2 - 2 * cosine_logits(a_ND, b_MD, 1.0)


def alignment(a_ND: Tensor, b_ND: Tensor) -> Tensor:
    """Return the mean squared distance, as unit vectors, of each row and its partner."""
    return squared_distances(a_ND[..., None, :], b_ND[..., None, :]).mean()


def uniformity(z_PND: Tensor) -> Tensor:
    """Return the uniformity of the rows of each image, averaged over images.

    Args:
        z_PND: ``(..., N, D)`` with at least two rows; leading axes are averaged over.
    """
    apart = ~torch.eye(z_PND.shape[-2], dtype=torch.bool, device=z_PND.device)
    likeness = (-SHARPNESS * squared_distances(z_PND, z_PND)).exp()[..., apart]
    return likeness.mean(-1).log().mean()


def uniformity_across(z_PND: Tensor) -> Tensor:
    """Return the uniformity between rows of different images: each image beside the next one.

    Args:
        z_PND: At least two images.
    """
    beside = squared_distances(z_PND, z_PND.roll(1, 0))
    return (-SHARPNESS * beside).exp().mean().log()


def uniformity_of_pairs(a_ND: Tensor, b_ND: Tensor, apart_NN: Tensor) -> Tensor:
    """Return ``log mean e^{-2 |x - y|^2}`` over the pairs that should be apart; 0 where none is.

    Args:
        a_ND: One side, the rows of the mask.
        b_ND: The other, its columns.
        apart_NN: Boolean.
    """
    exponent_NN = -SHARPNESS * squared_distances(a_ND, b_ND)
    log_sum = exponent_NN.masked_fill(~apart_NN, NEVER).flatten().logsumexp(0)
    pairs = apart_NN.sum()
    return (log_sum - pairs.clamp_min(1).log()).masked_fill(pairs == 0, 0)


def contrastive_gap(image_BD: Tensor, text_BD: Tensor, apart_BB: Tensor) -> dict[str, Tensor]:
    """Return the three terms that, added to a contrastive loss, close the gap (arXiv:2405.18570).

    Args:
        image_BD: Embeddings; they need not have unit length.
        text_BD: Those of the images' texts.
        apart_BB: Boolean: which images and texts should be apart, such as
            :func:`medssl.losses.pair_targets.negatives`; images among each other,
            and texts, are judged by the same mask.

    Returns:
        ``alignment``; ``uniformity``, the mean of that of images and that of texts; and
        ``cross_uniformity``, between images and texts.
    """
    images = uniformity_of_pairs(image_BD, image_BD, apart_BB)
    texts = uniformity_of_pairs(text_BD, text_BD, apart_BB)
    return {
        "alignment": alignment(image_BD, text_BD),
        "uniformity": (images + texts) / 2,
        "cross_uniformity": uniformity_of_pairs(image_BD, text_BD, apart_BB),
    }


@torch.no_grad()
def gap_scores(image_BD: Tensor, text_BD: Tensor, apart_BB: Tensor) -> dict[str, Tensor]:
    """Return what tells how images and texts lie on the sphere, to be followed.

    Args:
        image_BD: As in :func:`contrastive_gap`.
        text_BD: As there.
        apart_BB: As there.

    Returns:
        ``gap``, the distance of the centroids of images and texts; ``alignment``;
        ``image_uniformity``, ``text_uniformity`` and ``cross_uniformity``.
    """
    of_images, of_texts = (F.normalize(z.float(), dim=1).mean(0) for z in (image_BD, text_BD))
    return {
        "gap": torch.dist(of_images, of_texts),
        "alignment": alignment(image_BD, text_BD),
        "image_uniformity": uniformity_of_pairs(image_BD, image_BD, apart_BB),
        "text_uniformity": uniformity_of_pairs(text_BD, text_BD, apart_BB),
        "cross_uniformity": uniformity_of_pairs(image_BD, text_BD, apart_BB),
    }


@torch.no_grad()
def scores(z_ND: Tensor, positive_NN: Tensor) -> dict[str, Tensor]:
    """Return alignment over the positive pairs and uniformity over all rows, to be followed.

    Args:
        z_ND: Embeddings; they need not have unit length.
        positive_NN: How often each pair counts.
    """
    return {
        "alignment": mean_over(squared_distances(z_ND, z_ND), positive_NN),
        "uniformity": uniformity(z_ND),
    }


@torch.no_grad()
def dense_scores(a_PND: Tensor, b_PND: Tensor) -> dict[str, Tensor]:
    """Return alignment and both uniformities of features at matched places.

    Args:
        a_PND: Features of N places of each of P images, in one view.
        b_PND: Those of the same places in another view.

    Returns:
        ``dense_alignment``, ``dense_uniformity`` within an image, and, where there are several
        images, ``dense_uniformity_across``.
    """
    found = {
        "dense_alignment": alignment(a_PND, b_PND),
        "dense_uniformity": uniformity(a_PND),
    }
    if len(a_PND) > 1:
        found["dense_uniformity_across"] = uniformity_across(a_PND)
    return found
