"""A linear map of frozen embeddings: learned on some patients, chosen by others, scored by more."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medssl.evaluation.frozen.logistic import fit_heads, log_loss, standardised


class LinearProbe(NamedTuple):
    """What came of a linear probe."""

    shares_MC: NDArray[np.float64]
    """Probabilities of the rows to score, by the chosen head."""
    l2: float
    """How much the chosen head was held back."""
    val_loss_H: NDArray[np.float64]
    """What it was chosen by, of every head."""


def linear_probe(
    learn: tuple[Tensor, Tensor],
    choose: tuple[Tensor, Tensor],
    z_MD: Tensor,
    l2_H: Tensor,
    *,
    exclusive: bool,
) -> LinearProbe:
    """Return what a logistic regression on standardised embeddings says of ``z_MD``.

    All strengths of L2 are trained together; the one with the least mean log loss on the rows to
    choose by is kept, the more held back where two are equal.

    Args:
        learn: Embeddings and answers ``(L, C)`` to learn from; NaN where a column is not known.
        choose: Those to choose by, of other patients.
        z_MD: Embeddings to score.
        l2_H: Strengths, above 0.
        exclusive: Whether each row has one class.
    """
    (z_LD, y_LC), (z_VD, y_VC) = learn, choose
    l2_H = l2_H.double().sort(descending=True).values
    heads = fit_heads(standardised(z_LD, z_LD), y_LC.double(), l2_H, exclusive=exclusive)
    logits_HVC = heads.logits(standardised(z_VD, z_LD))
    loss_H = log_loss(logits_HVC, y_VC.double(), exclusive=exclusive)
    best = int(loss_H.argmin())
    shares_MC = heads.shares(standardised(z_MD, z_LD))[best]
    return LinearProbe(shares_MC.numpy(), float(l2_H[best]), loss_H.numpy())
