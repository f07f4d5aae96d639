"""What the nearest rows of other patients say of a row."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medssl.training.probe_scores import neighbour_votes

Groups = Sequence[str]
"""One word a row: whose it is, or which near duplicates it belongs to; "" for none."""


def cosines(z_MD: Tensor, z_LD: Tensor) -> Tensor:
    """Return ``(M, L)`` cosines in float64; a row without length has cosine 0 with all."""
    return F.normalize(z_MD.double(), dim=1) @ F.normalize(z_LD.double(), dim=1).T


def shared(groups_M: Groups, groups_L: Groups) -> Tensor:
    """Return ``(M, L)`` whether two rows are of one group; "" is of none."""
    a, b = np.asarray(groups_M, dtype=str), np.asarray(groups_L, dtype=str)
    return torch.from_numpy((a[:, None] == b[None, :]) & (a != "")[:, None])


def knn_shares(
    cosine_ML: Tensor,
    y_LC: Tensor,
    hidden_ML: Tensor,
    *,
    k: int,
    temperature: float = 0.07,
) -> NDArray[np.float64]:
    """Return ``(M, C)``: the share of the neighbours' votes that each class gets.

    The k nearest rows that are not hidden vote with ``exp(cosine / temperature)`` (Wu et al. 2018,
    section 3.4, as in the kNN evaluation of DINO, Caron et al. 2021, arXiv:2104.14294).

    Args:
        cosine_ML: Of each row to score and each row to learn from.
        y_LC: Answers of the rows to learn from: 0 and 1, NaN where one is not known and so does
            not vote.
        hidden_ML: Rows that a row must not see: of its own patient, or copies of it.
        k: How many vote.
        temperature: The smaller, the more the nearest one counts.

    Returns:
        NaN where no row with a known answer may be seen.
    """
    seen_ML = cosine_ML.masked_fill(hidden_ML, -torch.inf)
    # A factor that all votes of a row have in common; without it small temperatures overflow.
    seen_ML = seen_ML - seen_ML.amax(1, keepdim=True).nan_to_num(neginf=0.0)
    known_LC = (~y_LC.isnan()).double()
    asked_LE = torch.cat([y_LC.nan_to_num(0.0), known_LC], dim=1)
    votes_ME = neighbour_votes(seen_ML, asked_LE, k=k, temperature=temperature)
    yes_MC, all_MC = votes_ME.chunk(2, dim=1)
    shares: NDArray[np.float64] = (yes_MC / all_MC).numpy()
    return shares
