"""Barlow Twins: two views agree feature by feature, and no two features say the same.

Zbontar et al. (ICML 2021, arXiv:2103.03230, eq. 1 and 2).
"""

import torch
from torch import Tensor

EPS = 1e-5
"""Added to variances, so that a constant feature correlates with nothing."""


def barlow(first_ND: Tensor, second_ND: Tensor, redundancy: float) -> Tensor:
    """Return ``(sum_i (1 - C_ii)^2 + redundancy * sum_{i != j} C_ij^2) / D``.

    C correlates the features of the first views with those of the second over the batch. Divided
    by the number of features, which the paper does not do, constant projections cost 1.

    Args:
        first_ND: Projections of the first view of each sample.
        second_ND: Of the second view, in the same order.
        redundancy: Weight of what is off the diagonal.
    """
    with torch.autocast(first_ND.device.type, enabled=False):
        first_ND, second_ND = _standardised(first_ND), _standardised(second_ND)
        correlation_DD = first_ND.T @ second_ND / len(first_ND)
        on_D = correlation_DD.diagonal()
        off = correlation_DD.square().sum() - on_D.square().sum()
        return ((1 - on_D).square().sum() + redundancy * off) / len(on_D)


def _standardised(z_ND: Tensor) -> Tensor:
    z_ND = z_ND.to(torch.promote_types(z_ND.dtype, torch.float32))
    variance_D, mean_D = torch.var_mean(z_ND, dim=0, correction=0)
    return (z_ND - mean_D) / (variance_D + EPS).sqrt()
