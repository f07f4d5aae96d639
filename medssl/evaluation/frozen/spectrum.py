"""How many directions a set of embeddings varies in."""

import torch
from torch import Tensor


@torch.no_grad()
def participation_ratio(z_ND: Tensor) -> float:
    """Return ``(sum l)^2 / sum l^2`` of the eigenvalues ``l`` of the covariance.

    1 when all rows lie on a line, D when they vary equally in all directions (Gao et al. 2017,
    bioRxiv 214262). A set of equal rows has 0. Of unlike features the strong count
    most; ``effective_rank`` in ``medssl.training.collapse`` is the same question by entropy, of
    unit rows.
    """
    z_ND = z_ND.double()
    values = torch.linalg.svdvals(z_ND - z_ND.mean(0)) ** 2
    return float(values.sum() ** 2 / (values**2).sum().clamp_min(1e-300))
