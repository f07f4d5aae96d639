"""What a handful of labelled patients is enough for."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medssl.evaluation.frozen.logistic import fit_heads, standardised
from medssl.evaluation.intervals import NAN, Estimate, Resampling


def draw_shots(
    labels_L: Sequence[int] | NDArray[np.int64],
    patients_L: Sequence[str],
    shots: int,
    classes: int,
    draws: int,
    rng: np.random.Generator,
) -> NDArray[np.int64] | None:
    """Return ``(R, C * shots)`` rows, class by class; None where a class has too few patients.

    A shot is a patient: first patients of a class are drawn, then one of each one's rows, so that
    two shots never show one person.
    """
    labels, patients = np.asarray(labels_L), np.asarray(patients_L)
    drawn = []
    for label in range(classes):
        rows_of = [
            np.flatnonzero((labels == label) & (patients == patient))
            for patient in sorted(set(patients[labels == label]))
        ]
        if len(rows_of) < shots:
            return None
        drawn.append([[rng.choice(rows_of[n]) for n in rng.permutation(len(rows_of))[:shots]]
                      for _ in range(draws)])  # fmt: skip
    return np.concatenate(drawn, axis=1)


def nearest_mean(z_RSD: Tensor, z_MD: Tensor, classes: int) -> NDArray[np.int64]:
    """Return ``(R, M)`` the class whose mean is nearest, once the shots' mean is taken off.

    Rows are centred and brought to unit length before the means are taken (Wang et al. 2019,
    "SimpleShot", arXiv:1911.04623, CL2N; there the centre is that of other classes, which do not
    exist here).

    Args:
        z_RSD: The shots of every draw, class by class and equally many of each.
        z_MD: Rows to score.
        classes: How many.
    """
    z_RSD, centre_R1D = z_RSD.double(), z_RSD.double().mean(1, keepdim=True)
    shots_RCSD = F.normalize(z_RSD - centre_R1D, dim=-1).view(
        len(z_RSD), classes, -1, z_RSD.shape[-1]
    )
    asked_RMD = F.normalize(z_MD.double() - centre_R1D, dim=-1)
    return torch.cdist(asked_RMD, shots_RCSD.mean(2)).argmin(-1).numpy()


def logistic(z_RSD: Tensor, z_MD: Tensor, classes: int, l2: float) -> NDArray[np.int64]:
    """Return ``(R, M)`` the class that a logistic regression on the standardised shots gives.

    Args:
        z_RSD: The shots of every draw, class by class and equally many of each.
        z_MD: Rows to score.
        classes: How many.
        l2: How much it is held back; with so few rows there are none to choose it by.
    """
    draws, rows = z_RSD.shape[:2]
    label_S = torch.arange(classes).repeat_interleave(rows // classes)
    y_RSC = F.one_hot(label_S, classes).double().expand(draws, -1, -1)
    l2_R = torch.full((draws,), l2, dtype=torch.float64)
    heads = fit_heads(standardised(z_RSD, z_RSD), y_RSC, l2_R, exclusive=True)
    return heads.logits(standardised(z_MD, z_RSD)).argmax(-1).numpy()


def balanced_accuracy(
    right_RM: NDArray[np.float64],
    labels_M: Sequence[int],
    patients_M: Sequence[str],
    how: Resampling,
) -> Estimate:
    """Return the mean recall of the classes, over draws, with an interval over draws and patients.

    Draws and patients are resampled independently of each other, as rows and columns of a table
    (the pigeonhole bootstrap, Owen 2007, Annals of Applied Statistics 1(2)). A resample
    that lacks a class takes the mean over the others.

    Args:
        right_RM: 1 where a draw labelled a row rightly, else 0; or how much more rightly than
            another encoder, given the same shots.
        labels_M: Classes of the rows.
        patients_M: Whose each row is.
        how: How many resamples, and of which interval.
    """
    labels = np.asarray(labels_M)
    classes = range(int(labels.max()) + 1)
    names, patient_M = np.unique(np.asarray(patients_M), return_inverse=True)
    owns_MP = np.eye(len(names))[patient_M]
    of_CM = np.stack([labels == label for label in classes]).astype(np.float64)
    rows_CP = of_CM @ owns_MP
    right_CRP = np.stack([right_RM * of_M @ owns_MP for of_M in of_CM])

    def recall(draws_BR: NDArray[np.float64], patients_BP: NDArray[np.float64]) -> Tensor:
        hits_BC = np.einsum("br,crp,bp->bc", draws_BR, right_CRP, patients_BP, optimize=True)
        rows_BC = draws_BR.sum(1, keepdims=True) * (patients_BP @ rows_CP.T)
        return torch.from_numpy(np.where(rows_BC > 0, hits_BC / np.maximum(rows_BC, 1), np.nan))

    count_r, count_p = len(right_RM), len(names)
    mean = float(recall(np.ones((1, count_r)), np.ones((1, count_p))).nanmean())
    if count_p < 2:  # noqa: PLR2004 - nothing to resample
        return Estimate(mean=mean, low=NAN, high=NAN, patients=count_p)
    rng = np.random.default_rng(how.seed)
    chance = (np.full(count_r, 1 / count_r), np.full(count_p, 1 / count_p))
    weights = [rng.multinomial(len(c), c, size=how.resamples).astype(np.float64) for c in chance]
    tails = [(1 - how.confidence) / 2, (1 + how.confidence) / 2]
    low, high = np.quantile(recall(*weights).nanmean(1).numpy(), tails)
    return Estimate(mean=mean, low=float(low), high=float(high), patients=count_p)
