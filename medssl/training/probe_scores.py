"""What frozen embeddings know of labels: nearest neighbours and a linear map, across patients."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Split = tuple[Tensor, Tensor]
"""Rows to learn from, rows to score."""


def patient_folds(patients: Sequence[str], folds: int, seed: int) -> list[Split]:
    """Return splits in which each row is scored once, never beside a row of its own patient.

    Args:
        patients: Whose each row is.
        folds: Splits; there must be as many patients.
        seed: Draws which patients go together.

    Raises:
        ValueError: There are fewer patients than folds.
    """
    names = sorted(set(patients))
    if len(names) < folds:
        raise ValueError(f"{len(names)} patient(s) cannot be divided into {folds} folds")
    shuffled = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[index]: position % folds for position, index in enumerate(shuffled)}
    fold_N: NDArray[np.int64] = np.array([fold_of[patient] for patient in patients])
    return [
        (
            torch.from_numpy(np.flatnonzero(fold_N != n)),
            torch.from_numpy(np.flatnonzero(fold_N == n)),
        )
        for n in range(folds)
    ]


def knn_accuracy(z_ND: Tensor, labels_N: Tensor, splits: list[Split], *, k: int) -> float:
    """Return the share of rows whose k nearest neighbours of other patients tell their label.

    Neighbours by cosine; each votes with the exponential of it (temperature 0.07), as in Wu et
    al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR 2018).
    """
    z_ND, right = F.normalize(z_ND.double(), dim=1), 0
    for learn, score in splits:
        y_LC = F.one_hot(labels_N[learn], int(labels_N.max()) + 1).double()
        votes_MC = neighbour_votes(z_ND[score] @ z_ND[learn].T, y_LC, k=k)
        right += int((votes_MC.argmax(1) == labels_N[score]).sum())
    return right / len(labels_N)


def neighbour_votes(
    cosine_ML: Tensor, y_LC: Tensor, *, k: int, temperature: float = 0.07
) -> Tensor:
    """Return ``(M, C)``: what the k nearest rows say, each as loudly as it is near.

    Args:
        cosine_ML: Of each row to score and each row to learn from; minus infinity for one that
            must not vote.
        y_LC: What the rows to learn from say of each class.
        k: Rows that vote.
        temperature: A row votes with ``exp(cosine / temperature)``.
    """
    cosine_MK, near_MK = cosine_ML.topk(min(k, cosine_ML.shape[1]), dim=1)
    return torch.einsum("mk,mkc->mc", (cosine_MK / temperature).exp(), y_LC[near_MK])


def linear_accuracy(z_ND: Tensor, labels_N: Tensor, splits: list[Split], *, ridge: float) -> float:
    """Return the share of rows that a linear map of other patients' embeddings labels rightly.

    Ridge regression of the classes as 0 and 1 on standardised embeddings, in closed form:
    ``W = X' (X X' + ridge * D * I)^-1 Y``, which has as many equations as rows.
    """
    z_ND, right = z_ND.double(), 0
    for learn, score in splits:
        mean_D, std_D = z_ND[learn].mean(0), z_ND[learn].std(0, correction=0).clamp_min(1e-12)
        x_LD, x_MD = ((z_ND[rows] - mean_D) / std_D for rows in (learn, score))
        y_LC = F.one_hot(labels_N[learn], int(labels_N.max()) + 1).double()
        kernel_LL = x_LD @ x_LD.T / x_LD.shape[1]
        kernel_LL.diagonal().add_(ridge)
        alpha_LC = torch.linalg.solve(kernel_LL, y_LC - y_LC.mean(0))
        guess_MC = x_MD @ x_LD.T / x_LD.shape[1] @ alpha_LC + y_LC.mean(0)
        right += int((guess_MC.argmax(1) == labels_N[score]).sum())
    return right / len(labels_N)
