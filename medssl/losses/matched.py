"""Dense contrast of views that overlap: features of the same place are alike in both.

Each view knows the affine from its voxels to those of the region it was cut from, so places in
the part that two views share are known in both, through crops, zoom, turns and flips. Features
there are compared with InfoNCE (van den Oord et al. 2018, arXiv:1807.03748, equation 4), as dense
methods for slices do (Pinheiro et al. 2020, arXiv:2011.05499; Xie et al. 2021, arXiv:2011.10043).

Suffixes: P pairs of views, N places of each, D features, A axes of a view (2 or 3).
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.losses.ntxent import NEVER, cosine_logits, mean_over

Negatives = Literal["image", "batch"]
GOLDEN = 1.2207440846057596
"""The positive root of ``x^4 = x + 1``: its powers spread points evenly over a cube."""


class Places(NamedTuple):
    """Places that pairs of views share."""

    region_PN3: Tensor
    """In voxels of the region."""
    first_PN3: Tensor
    """In voxels of the first view of each pair."""
    second_PN3: Tensor
    """In voxels of the second view."""
    shared_P: Tensor
    """Whether the two views overlap at all."""


def shared_places(
    first_P34: Tensor, second_P34: Tensor, shape: tuple[int, int, int], count: int
) -> Places:
    """Draw places in the box that two views share, spread evenly over it.

    They are points of an additive sequence in three dimensions (Roberts 2018, "The unreasonable
    effectiveness of quasirandom sequences"): no two lie close together, as independent draws do.
    How the views lie decides where the sequence begins, so the same crops have the same places in
    every process and in every validation.

    Args:
        first_P34: Affine from voxels of the first view of each pair to voxels of its region;
            every axis of a view lies along one of the region's.
        second_P34: That of the second view.
        shape: Voxels of a view along I, J, K; K is 1 for slices.
        count: How many.
    """
    with torch.autocast(first_P34.device.type, enabled=False):
        low_P3, high_P3 = box(first_P34, shape)
        other_low_P3, other_high_P3 = box(second_P34, shape)
        low_P3, high_P3 = low_P3.maximum(other_low_P3), high_P3.minimum(other_high_P3)
        size_P13 = (high_P3 - low_P3)[:, None]
        begin_P3 = _begin(torch.cat([first_P34, second_P34], dim=1).flatten(1))
        region_PN3 = low_P3[:, None] + even_points(begin_P3, count) * size_P13
        return Places(
            region_PN3,
            view_voxels(first_P34, region_PN3),
            view_voxels(second_P34, region_PN3),
            (high_P3 > low_P3).all(1),
        )


def even_points(begin_P3: Tensor, count: int) -> Tensor:
    """Return points that cover the unit cube evenly from a first one on, ``(P, count, 3)``."""
    powers_3 = torch.arange(1, 4).to(begin_P3)
    numbers_N1 = torch.arange(count).to(begin_P3)[:, None]
    return (begin_P3[:, None] + numbers_N1 * torch.pow(GOLDEN, -powers_3)).remainder(1)


def _begin(numbers_PX: Tensor) -> Tensor:
    """Return a point of the unit cube that differs where any of the numbers does."""
    roots_X3 = torch.arange(1, 3 * numbers_PX.shape[1] + 1).to(numbers_PX).sqrt().view(-1, 3)
    return (numbers_PX @ roots_X3).remainder(1)


def box(affine_P34: Tensor, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return the lower and upper edge of every view in its region, ``(P, 3)`` each."""
    edge_3 = torch.tensor(shape, device=affine_P34.device, dtype=affine_P34.dtype) - 0.5
    corners_23 = torch.stack([torch.full_like(edge_3, -0.5), edge_3])
    corners_P23 = corners_23 @ affine_P34[..., :3].mT + affine_P34[:, None, :, 3]
    return corners_P23.amin(1), corners_P23.amax(1)


def view_voxels(affine_P34: Tensor, region_PN3: Tensor) -> Tensor:
    """Return where places of the region lie in a view, in voxels of the view."""
    matrix_P33, offset_P13 = affine_P34[..., :3], affine_P34[:, None, :, 3]
    solved_P3N: Tensor = torch.linalg.solve(matrix_P33, (region_PN3 - offset_P13).mT)
    return solved_P3N.mT


def features_at(map_PDIJK: Tensor, voxels_PN3: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return the features of a map at places of the view it was made from, ``(P, N, D)``.

    Between voxels they are interpolated linearly, in float32 at least: halves know places of a long
    view to a quarter of a voxel only. Slices have no K axis.

    Args:
        map_PDIJK: Of any stride: it covers what the view covers.
        voxels_PN3: In voxels of the view.
        shape: Voxels of the view.
    """
    axes = map_PDIJK.ndim - 2
    dtype = torch.promote_types(map_PDIJK.dtype, torch.float32)
    with torch.autocast(map_PDIJK.device.type, enabled=False):
        size_3 = torch.tensor(shape, device=voxels_PN3.device, dtype=voxels_PN3.dtype)
        # grid_sample counts axes from the last, and from -1 to 1 between the outer edges of voxels.
        grid_PNA = ((2 * voxels_PN3 + 1) / size_3 - 1)[..., :axes].flip(-1).to(dtype)
        grid = grid_PNA.view(len(grid_PNA), -1, *[1] * (axes - 1), axes)
        found = F.grid_sample(map_PDIJK.to(dtype), grid, padding_mode="border", align_corners=False)
        return found.flatten(2).mT


def matched_contrast(
    a_PND: Tensor,
    b_PND: Tensor,
    places: Places,
    temperature: float,
    *,
    negatives: Negatives = "image",
    apart: float = 0.0,
) -> Tensor:
    """Return InfoNCE over matched places, in both directions, averaged over them.

    Args:
        a_PND: Features at places of the first view of each pair.
        b_PND: Features at the same places of the second view.
        places: Where they lie; pairs of views that share nothing do not count, nor are they
            negatives of others.
        temperature: Divides the cosines.
        negatives: Other places of the same pair of views, or of all pairs of the batch.
        apart: Places of the same pair closer than this, in voxels of the region, are not compared.
    """
    pairs, count, _ = a_PND.shape
    close_PNN = torch.cdist(places.region_PN3, places.region_PN3) < apart
    close_PNN = close_PNN & ~torch.eye(count, dtype=torch.bool, device=a_PND.device)
    if negatives == "image":
        logits = cosine_logits(a_PND, b_PND, temperature).masked_fill(close_PNN, NEVER)
    else:
        logits = cosine_logits(a_PND.flatten(0, 1), b_PND.flatten(0, 1), temperature)
        logits = logits.masked_fill(_hidden(close_PNN, places.shared_P), NEVER)[None]
    alike = logits.diagonal(dim1=1, dim2=2)
    cost_PN = ((logits.logsumexp(1) + logits.logsumexp(2)) / 2 - alike).view(pairs, count)
    return mean_over(cost_PN.mean(1), places.shared_P)


def _hidden(close_PNN: Tensor, shared_P: Tensor) -> Tensor:
    """Return which places of the batch are not compared, ``(P N, P N)``."""
    pairs, count, _ = close_PNN.shape
    same_pair_PP = torch.eye(pairs, dtype=torch.bool, device=close_PNN.device)
    close_PNPN = close_PNN[:, :, None] & same_pair_PP[:, None, :, None]
    apart_PP = ~(shared_P[:, None] & shared_P) & ~same_pair_PP
    return (close_PNPN | apart_PP[:, None, :, None]).view(pairs * count, pairs * count)


def collapsed(pairs: int, count: int, negatives: Negatives) -> float:
    """Return :func:`matched_contrast` when all features are equal and no places are too close.

    It is the logarithm of the number of places that each is compared with, itself among them.

    Args:
        pairs: How many pairs of views share something.
        count: Places of each.
        negatives: As there.
    """
    compared = count * (pairs if negatives == "batch" else min(pairs, 1))
    return math.log(max(compared, 1))


@torch.no_grad()
def scores(a_PND: Tensor, b_PND: Tensor) -> dict[str, Tensor]:
    """Return how alike matched and other places of the same views are, to be followed.

    ``match_accuracy`` is how often the nearest place of the other view is the right one.
    """
    cosine_PNN = cosine_logits(a_PND, b_PND, 1.0)
    alike_PN = cosine_PNN.diagonal(dim1=1, dim2=2)
    count = cosine_PNN.shape[1]
    others = (cosine_PNN.sum() - alike_PN.sum()) / (cosine_PNN.numel() - alike_PN.numel())
    found_PN = cosine_PNN.argmax(2) == torch.arange(count, device=cosine_PNN.device)
    return {
        "positive_cosine": alike_PN.mean(),
        "negative_cosine": others,
        "match_accuracy": found_PN.float().mean(),
    }
