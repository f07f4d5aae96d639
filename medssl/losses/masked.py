"""Masked modelling: how well what was hidden is told from what was seen.

He et al., "Masked Autoencoders Are Scalable Vision Learners" (CVPR 2022, arXiv:2111.06377). Every
view counts equally, however much of it is hidden.
"""

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["mse", "l1"]


def masked_error(
    prediction_BCIJK: Tensor, target_BCIJK: Tensor, hidden_B1IJK: Tensor, kind: Kind
) -> Tensor:
    """Return the mean error of every row over its hidden voxels, ``(B,)``; 0 where none is.

    Args:
        prediction_BCIJK: What the decoder says.
        target_BCIJK: What is there.
        hidden_B1IJK: 1 where a voxel was hidden, else 0; what was seen does not count.
        kind: Squared or absolute differences.
    """
    difference_BCIJK = prediction_BCIJK - target_BCIJK
    error_BCIJK = difference_BCIJK.square() if kind == "mse" else difference_BCIJK.abs()
    weight_BCIJK = hidden_B1IJK.expand_as(error_BCIJK)
    count_B = weight_BCIJK.flatten(1).sum(1)
    return (error_BCIJK * weight_BCIJK).flatten(1).sum(1) / count_B.clamp_min(1)


def cell_normalised(x_BCIJK: Tensor, cells: tuple[int, ...], eps: float) -> Tensor:
    """Return each cell with mean 0 and variance 1, the targets of section 3 of the paper.

    Args:
        x_BCIJK: Values; their grid is a whole multiple of the cells'.
        cells: Cells along each axis.
        eps: Added to the variance, so that noise in an even cell is not blown up.
    """
    sizes = [
        part
        for size, count in zip(x_BCIJK.shape[2:], cells, strict=True)
        for part in (count, size // count)
    ]
    split = x_BCIJK.reshape(*x_BCIJK.shape[:2], *sizes)
    inside = list(range(3, split.ndim, 2))
    variance, mean = torch.var_mean(split, inside, correction=0, keepdim=True)
    return ((split - mean) / (variance + eps).sqrt()).reshape(x_BCIJK.shape)


def best_constant(target_BCIJK: Tensor, hidden_B1IJK: Tensor, kind: Kind) -> float:
    """Return the lowest mean of :func:`masked_error` that one number everywhere can reach.

    For squared differences that number is the mean of the hidden voxels and the error their
    variance; for absolute ones it is their median.
    """
    target = target_BCIJK.double()
    weight = hidden_B1IJK.double().expand_as(target)
    weight = weight / weight.flatten(1).sum(1).clamp_min(1).view(-1, *[1] * (target.ndim - 1))
    values, weights = target.flatten(), weight.flatten()
    if kind == "mse":
        best = (values * weights).sum() / weights.sum()
    else:
        values, order = values.sort()
        weights = weights[order]
        best = values[torch.searchsorted(weights.cumsum(0), weights.sum() / 2)]
    constant = best.expand_as(target)
    return float(masked_error(constant, target, hidden_B1IJK.double(), kind).mean())
