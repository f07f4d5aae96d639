"""How alike two descriptions of the same rows are, whatever their axes and scale."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medssl.evaluation.frozen.spectrum import centred

FEWEST_ROWS = 4
"""The unbiased estimate divides by ``N - 3``."""


def cka_matrix(descriptions: Sequence[Tensor], *, debiased: bool = True) -> NDArray[np.float64]:
    """Return centred kernel alignment with linear kernels of each pair of descriptions.

    It is 1 for descriptions equal but for a turn. Biased: ``|Y' X|_F^2 / (|X' X|_F |Y' Y|_F)`` of
    centred features (Kornblith et al. 2019, arXiv:1905.00414, equations 3 and 4 and section 3),
    near 1 for any two descriptions with far more features than rows. Debiased: the same ratio of
    unbiased estimates of HSIC (Song et al. 2012, JMLR 13; Nguyen et al. 2021, arXiv:2010.15327,
    equation 3), which is around 0 for independent ones and may be negative.

    Args:
        descriptions: ``(N, D)`` each, of the same rows, at least four; D may differ.
        debiased: Which of the two.

    Returns:
        ``(A, A)``; NaN where one of a pair does not vary, or too little to be told from chance.

    Raises:
        ValueError: There are too few rows.
    """
    if len(descriptions[0]) < FEWEST_ROWS:
        raise ValueError(f"CKA needs {FEWEST_ROWS} rows, found {len(descriptions[0])}")
    kernels = torch.stack([_kernel(x_ND, debiased) for x_ND in descriptions])
    hsic_AA = _unbiased_hsic(kernels) if debiased else torch.einsum("anm,bnm->ab", kernels, kernels)
    own_A = hsic_AA.diagonal()
    own_A = torch.where(own_A > 0, own_A, torch.nan)
    matrix: NDArray[np.float64] = (hsic_AA / (own_A[:, None] * own_A).sqrt()).numpy()
    return matrix


def _kernel(x_ND: Tensor, debiased: bool) -> Tensor:
    x_ND = centred(x_ND)
    kernel_NN = x_ND @ x_ND.T
    # The scale cancels; without it products of large features lose digits.
    kernel_NN = kernel_NN / kernel_NN.abs().max().clamp_min(1e-300)
    return kernel_NN.fill_diagonal_(0) if debiased else kernel_NN


def _unbiased_hsic(kernels_ANN: Tensor) -> Tensor:
    """Return HSIC of all pairs of kernels with a zero diagonal."""
    count = kernels_ANN.shape[-1]
    rows_AN = kernels_ANN.sum(-1)
    all_A = rows_AN.sum(-1)
    trace_AA = torch.einsum("anm,bnm->ab", kernels_ANN, kernels_ANN)
    whole_AA = all_A[:, None] * all_A / ((count - 1) * (count - 2))
    cross_AA = 2 * rows_AN @ rows_AN.T / (count - 2)
    return (trace_AA + whole_AA - cross_AA) / (count * (count - 3))
