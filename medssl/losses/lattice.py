"""Local contrast at fixed places of feature maps (Chaitanya et al. 2020).

Two views of an image that differ in grey values alone have the same anatomy at the same place of
their maps. Small regions on a lattice are alike where they lie at the same place, and differ from
the regions near them (arXiv:2006.10511).

Suffixes: M maps, C channels, R regions of the lattice, V voxels of a region, A axes.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medssl.losses.global_local import Origin
from medssl.losses.ntxent import NEVER, cosine_logits, pair_terms

LEAST_ROOM = 4
REGIONS = {2: 3**2 + 2**2, 3: 3**3 + 2**3}
"""How many regions a lattice of so many axes has."""


def lattice_corners(shape: Sequence[int], region: int) -> Tensor:
    """Return the first voxels of the :data:`REGIONS`, ``(R, A)``: 13 on a slice, 35 in a volume.

    With room m for them to move along an axis they lie at {0, m/2, m} on every axis, and at
    {m/4, 3 m/4} on every axis. Regions of more than one voxel keep one voxel from the far border.

    Args:
        shape: Of a map, along its axes.
        region: Side of a region in voxels.

    Raises:
        ValueError: A map so small that regions would coincide.
    """
    room = [side - region - (region > 1) for side in shape]
    if min(room) < LEAST_ROOM:
        raise ValueError(
            f"a map of {tuple(shape)} voxels is too small for a lattice of regions of {region}: "
            f"it needs {LEAST_ROOM + region + (region > 1)} along every axis. Use larger crops, "
            "or more decoder levels"
        )
    coarse = torch.cartesian_prod(*(torch.tensor([0, m // 2, m]) for m in room))
    between = torch.cartesian_prod(*(torch.tensor([m // 4, 3 * m // 4]) for m in room))
    return torch.cat([coarse, between])


def neighbours(corners_RA: Tensor, count: int) -> Tensor:
    """Return which regions are among the ``count`` nearest of each, ``(R, R)`` boolean.

    Of regions equally far the first in the lattice are taken.
    """
    squared_RR = (corners_RA[:, None] - corners_RA).square().sum(2)
    squared_RR.fill_diagonal_(torch.iinfo(squared_RR.dtype).max)
    nearest_RN = squared_RR.argsort(dim=1, stable=True)[:, :count]
    return torch.zeros_like(squared_RR, dtype=torch.bool).scatter(1, nearest_RN, True)


def region_voxels(map_MCIJK: Tensor, corners_RA: Tensor, region: int) -> Tensor:
    """Return the voxels of every region of every map, ``(M, R, V, C)``; slices have no K axis."""
    shape = map_MCIJK.shape[2:]
    offsets_VA = torch.cartesian_prod(*(torch.arange(region) for _ in shape)).view(-1, len(shape))
    index_RVA = corners_RA[:, None] + offsets_VA
    flat_RV = index_RVA[..., 0]
    for axis, side in enumerate(shape[1:], start=1):
        flat_RV = flat_RV * side + index_RVA[..., axis]
    return map_MCIJK.flatten(2)[:, :, flat_RV.to(map_MCIJK.device)].permute(0, 2, 3, 1)


def map_pairs(rows: Origin, *, across_volumes: bool) -> Tensor:
    """Return which maps are compared, ``(M, M)`` boolean.

    Args:
        rows: Where the maps come from.
        across_volumes: Whether, beside the views of one image, the same view of the same partition
            of other volumes is alike (`ld`), or not (`lr`).
    """
    same_image = rows.image_N[:, None] == rows.image_N
    alike = same_image & (rows.view_N[:, None] != rows.view_N)
    if across_volumes:
        same_partition = rows.partition_N[:, None] == rows.partition_N
        same_view = rows.view_N[:, None] == rows.view_N
        alike = alike | (same_partition & same_view & (rows.volume_N[:, None] != rows.volume_N))
    return alike


def lattice_contrast(
    z_MRD: Tensor, alike_MM: Tensor, near_RR: Tensor, temperature: float, *, per_map: bool
) -> Tensor:
    """Return the contrast of regions at the same place of two maps with those near it in both.

    The negatives of a pair are the neighbours of its region in the anchor's map and in the
    partner's: twice as many as each region has.

    Args:
        z_MRD: Projections of the regions of every map.
        alike_MM: From :func:`map_pairs`.
        near_RR: From :func:`neighbours`.
        temperature: Divides the cosines.
        per_map: Divide the sum by maps and regions, as published, instead of by its terms.
    """
    maps, regions, _ = z_MRD.shape
    z_ND = z_MRD.flatten(0, 1)
    logits_MRMR = cosine_logits(z_ND, z_ND, temperature).view(maps, regions, maps, regions)
    near_MRM = logits_MRMR.masked_fill(~near_RR[:, None], NEVER).logsumexp(3)
    own_MR1 = near_MRM.diagonal(dim1=0, dim2=2).mT[..., None]
    same_place_MRM = logits_MRMR.diagonal(dim1=1, dim2=3).mT
    terms_MRM = pair_terms(same_place_MRM, torch.logaddexp(own_MR1, near_MRM))
    weight_M1M = alike_MM[:, None].to(terms_MRM.dtype)
    count = maps if per_map else weight_M1M.sum().clamp_min(1)
    return (terms_MRM * weight_M1M).sum() / (count * regions)


def collapsed(alike_MM: Tensor, neighbours: int, *, per_map: bool) -> float:
    """Return :func:`lattice_contrast` when all features are equal.

    Args:
        alike_MM: From :func:`map_pairs`.
        neighbours: Of each region.
        per_map: As there.
    """
    terms_per_map = float(alike_MM.sum()) / len(alike_MM) if per_map else float(alike_MM.any())
    return math.log(1 + 2 * neighbours) * terms_per_map
