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
    values = torch.linalg.svdvals(centred(z_ND)) ** 2
    return float(values.sum() ** 2 / (values**2).sum().clamp_min(1e-300))


def centred(z_ND: Tensor) -> Tensor:
    """Return rows less their mean, in float64; a feature that is the same in all becomes 0."""
    z_ND = z_ND.double()
    varies_D = (z_ND != z_ND[:1]).any(0)
    return (z_ND - z_ND.mean(0)) * varies_D
