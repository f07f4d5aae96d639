"""How varied a set of embeddings is, and how well a part of it covers the whole."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def vendi_score(embeddings_ND: Floats) -> float:
    """Return the effective number of different items, 1 (all alike) to N (all orthogonal).

    The exponential of the entropy of the eigenvalues of K / N, K the cosines of all pairs
    (Friedman and Dieng 2023, TMLR). K / N and the D x D matrix X' X / N share their eigenvalues
    other than 0, so the smaller of the two is taken: O(N D min(N, D)).
    """
    return float(np.exp(_entropy(_spectrum(unit_length(embeddings_ND)))))


def effective_rank(embeddings_ND: Floats) -> float:
    """Return the effective number of directions in which the set varies.

    The exponential of the entropy of the normalised singular values of the centred embeddings
    (Roy and Vetterli 2007, EUSIPCO). A set of equal items has 0.
    """
    centred_ND = embeddings_ND - embeddings_ND.mean(axis=0)
    singular = np.linalg.svd(centred_ND, compute_uv=False)
    negligible = singular.max(initial=0.0) * max(embeddings_ND.shape) * np.finfo(float).eps
    singular = singular[singular > negligible]
    return float(np.exp(_entropy(singular / singular.sum()))) if singular.size else 0.0


def cover_radius(embeddings_ND: Floats, kept_N: NDArray[np.bool_]) -> float:
    """Return the largest distance from an item to its nearest kept one: the k-centre radius."""
    return float(nearest_kept(embeddings_ND, kept_N).max(initial=0.0))


def nearest_kept(embeddings_ND: Floats, kept_N: NDArray[np.bool_], block: int = 512) -> Floats:
    """Return (N,) Euclidean distances to the nearest kept item; memory holds one block."""
    kept_KD = embeddings_ND[kept_N]
    found = [
        np.sqrt(np.maximum(squared_distances(embeddings_ND[n : n + block], kept_KD), 0).min(axis=1))
        for n in range(0, len(embeddings_ND), block)
    ]
    distances: Floats = np.concatenate(found)
    distances[kept_N] = 0.0
    return distances


def squared_distances(a_ND: Floats, b_MD: Floats) -> Floats:
    """Return (N, M) squared Euclidean distances."""
    products = a_ND @ b_MD.T
    squared: Floats = (a_ND**2).sum(axis=1)[:, None] - 2 * products + (b_MD**2).sum(axis=1)[None, :]
    return squared


def unit_length(embeddings_ND: Floats) -> Floats:
    """Return embeddings divided by their length; one without length stays 0."""
    length_N1 = np.sqrt((embeddings_ND**2).sum(axis=1, keepdims=True))
    return embeddings_ND / np.where(length_N1 > 0, length_N1, 1.0)


def _spectrum(unit_ND: Floats) -> Floats:
    count, width = unit_ND.shape
    products = unit_ND.T @ unit_ND if width < count else unit_ND @ unit_ND.T
    values: Floats = np.maximum(np.linalg.eigvalsh(products / count), 0.0)
    return values


def _entropy(shares: Floats) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())
