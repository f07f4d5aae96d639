"""How close positives are, and how evenly embeddings cover the sphere.

Wang and Isola 2020 (arXiv:2005.10242): on unit vectors, alignment is E |x - y|^2 over positive
pairs, and uniformity log E e^{-2 |x - y|^2} over pairs of different rows. Both are better when
lower; a collapsed encoder has alignment 0 and uniformity 0. For dense maps, rows are features of
places, and uniformity within an image tells whether its places differ, across images whether
images do.

Suffixes: N rows, P images (or pairs of views), D features.
"""

import torch
from torch import Tensor

from medssl.losses.ntxent import cosine_logits, mean_over

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
