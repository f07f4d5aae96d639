"""Finding a study's report by its images, its images by its report, and studies like it.

Equal similarities are in no order, so every score is its expected value over all of them: a model
that gives all pairs the same similarity finds as much as chance does, not everything.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
KS: Final = (1, 5, 10, 50, 100)
PERCENT: Final = (1, 5, 10)


class FirstHit(NamedTuple):
    """Where the first relevant item stands: in a group of equals, behind all that are above it."""

    above_N: Floats
    """Items that are more similar than the first relevant ones."""
    equal_N: Floats
    """Items as similar as these, themselves included."""
    relevant_N: Floats
    """How many of the equal ones are relevant."""

    def rank(self) -> Floats:
        """Return the expected rank, from 1."""
        return self.above_N + (self.equal_N + 1) / (self.relevant_N + 1)

    def reciprocal_rank(self) -> Floats:
        """Return the expected value of 1 over the rank."""
        rows = zip(self.above_N, self.equal_N, self.relevant_N, strict=True)
        return np.array([_reciprocal(int(a), int(e), int(r)) for a, e, r in rows])

    def within(self, k: int) -> Floats:
        """Return the probability that the rank is at most ``k``."""
        drawn_N = np.clip(k - self.above_N, 0, self.equal_N)
        others_N = self.equal_N - self.relevant_N
        # of all ways to draw so many of the equal ones, those without a relevant one
        none_N = _log_choose(others_N, drawn_N) - _log_choose(self.equal_N, drawn_N)
        return np.where(drawn_N > others_N, 1.0, -np.expm1(np.where(drawn_N > others_N, 0, none_N)))


def first_hit(similarity_NM: Floats, relevant_NM: Bools) -> FirstHit:
    """Return where the first relevant item of each query stands.

    Args:
        similarity_NM: Of queries and gallery; -inf hides an item.
        relevant_NM: What a query should find, at least one item each.

    Raises:
        ValueError: For some query nothing is relevant.
    """
    if not relevant_NM.any(axis=1).all():
        raise ValueError("every query needs something that it should find")
    best_N1 = np.where(relevant_NM, similarity_NM, -np.inf).max(axis=1, keepdims=True)
    equal_NM = similarity_NM == best_N1
    return FirstHit(
        (similarity_NM > best_N1).sum(axis=1).astype(np.float64),
        equal_NM.sum(axis=1).astype(np.float64),
        (equal_NM & relevant_NM).sum(axis=1).astype(np.float64),
    )


def ranking_scores(
    similarity_NM: Floats,
    relevant_NM: Bools,
    ks: Sequence[int] = KS,
    percent: Sequence[float] = PERCENT,
) -> dict[str, Floats]:
    """Return scores of every query, ``(N,)`` each.

    ``recall@k``
        whether one of the first k is relevant; also of the first so many percent of the gallery,
        rounded up.
    ``rank``
        of the first relevant one, from 1.
    ``reciprocal_rank``
        1 over that.

    Args:
        similarity_NM: Of queries and gallery.
        relevant_NM: What a query should find, at least one item each.
        ks: How many are looked at; those beyond the gallery are left out.
        percent: How many of a hundred are looked at.
    """
    found, size = first_hit(similarity_NM, relevant_NM), similarity_NM.shape[1]
    scores = {f"recall@{k}": found.within(k) for k in ks if k <= size}
    scores |= {f"recall@{p:g}%": found.within(int(np.ceil(size * p / 100))) for p in percent}
    return {**scores, "rank": found.rank(), "reciprocal_rank": found.reciprocal_rank()}


def same_words(study_N: Sequence[str], text_N: Sequence[str], rows: slice = slice(None)) -> Bools:
    """Return ``(N, N)``, or some of its rows: whether two are one study, or say the same.

    Args:
        study_N: Keys of studies.
        text_N: Digests of their reports.
        rows: Which rows.
    """
    study, text = np.asarray(study_N), np.asarray(text_N)
    same_NN: Bools = (study[rows, None] == study) | (text[rows, None] == text)
    return same_NN


def label_overlap(present_NF: Bools, gallery_MF: Bools) -> Floats:
    """Return ``(N, M)`` findings that two studies share over those that either has (Jaccard).

    NaN where neither has any.
    """
    present, other = present_NF.astype(np.float64), gallery_MF.astype(np.float64)
    both = present @ other.T
    either = present.sum(axis=1)[:, None] + other.sum(axis=1) - both
    return _shares(both, either)


def mean_relevance(similarity_NM: Floats, relevance_NM: Floats, k: int) -> Floats:
    """Return the mean relevance of the first k, ``(N,)``: precision, where it is 0 or 1.

    Args:
        similarity_NM: Of queries and gallery; -inf hides an item.
        relevance_NM: 0 to 1.
        k: How many are looked at; where fewer are to be seen, these.
    """
    ordered = _ordered(similarity_NM, relevance_NM)
    seen_NM = ordered.there_NM & (np.arange(similarity_NM.shape[1]) < k)
    count_N = seen_NM.sum(axis=1)
    total_N = (ordered.expected_NM * seen_NM).sum(axis=1)
    return _shares(total_N, count_N.astype(np.float64))


def average_precision_at(similarity_NM: Floats, relevant_NM: Bools, k: int) -> Floats:
    """Return average precision of the first k, ``(N,)``; NaN where nothing is relevant.

    The sum of precision at the rank of each relevant item among the first k, over k or the number
    of relevant items, whichever is smaller; its mean over queries is MAP@k (Manning et al. 2008,
    "Introduction to Information Retrieval", equation 8.8, cut at k).

    Args:
        similarity_NM: Of queries and gallery; -inf hides an item.
        relevant_NM: What a query should find.
        k: How many are looked at.
    """
    relevance_NM = relevant_NM.astype(np.float64)
    ordered = _ordered(similarity_NM, relevance_NM)
    rank_M = np.arange(1, similarity_NM.shape[1] + 1)
    seen_NM = ordered.there_NM & (rank_M <= k)
    total_N = (ordered.hits_NM / rank_M * seen_NM).sum(axis=1)
    most_N = np.minimum(k, (relevant_NM & (similarity_NM > -np.inf)).sum(axis=1))
    return _shares(total_N, most_N.astype(np.float64))


class _Ordered(NamedTuple):
    """Items in descending order of similarity, averaged over all orders of equal ones."""

    there_NM: Bools
    """Whether an item may be seen."""
    expected_NM: Floats
    """Relevance at each rank."""
    hits_NM: Floats
    """Relevance at each rank times all relevance up to and with it."""


def _ordered(similarity_NM: Floats, relevance_NM: Floats) -> _Ordered:
    order_NM = np.argsort(-similarity_NM, axis=1, kind="stable")
    sorted_NM = np.take_along_axis(similarity_NM, order_NM, axis=1)
    there_NM: Bools = sorted_NM > -np.inf
    relevance_NM = np.where(there_NM, np.take_along_axis(relevance_NM, order_NM, axis=1), 0.0)
    starts_NM = np.ones_like(there_NM)
    starts_NM[:, 1:] = sorted_NM[:, 1:] != sorted_NM[:, :-1]
    group_NM = (np.cumsum(starts_NM) - 1).reshape(starts_NM.shape)
    count_G = np.bincount(group_NM.ravel())
    total_G = np.bincount(group_NM.ravel(), relevance_NM.ravel())
    squares_G = np.bincount(group_NM.ravel(), relevance_NM.ravel() ** 2)
    pairs_G = (total_G**2 - squares_G) / np.maximum(count_G * (count_G - 1), 1)
    first_NM = np.maximum.accumulate(np.where(starts_NM, np.arange(sorted_NM.shape[1]), 0), axis=1)
    before_NM = np.arange(sorted_NM.shape[1]) - first_NM  # items of its group before a rank
    up_to_NM = np.cumsum(relevance_NM, axis=1) - relevance_NM
    above_NM = np.take_along_axis(up_to_NM, first_NM, axis=1)
    expected_NM = (total_G / count_G)[group_NM]
    hits_NM = (
        expected_NM * above_NM + pairs_G[group_NM] * before_NM + (squares_G / count_G)[group_NM]
    )
    return _Ordered(there_NM, expected_NM, hits_NM)


def _shares(above: Floats, below: Floats) -> Floats:
    """Return ``above / below``, NaN where nothing is below."""
    shares: Floats = np.full_like(above, np.nan)
    return np.divide(above, below, out=shares, where=below > 0)


def _log_choose(total_N: Floats, drawn_N: Floats) -> Floats:
    left_N = np.maximum(total_N - drawn_N, 0)
    log_N: Floats = gammaln(total_N + 1) - gammaln(drawn_N + 1) - gammaln(left_N + 1)
    return log_N


def _reciprocal(above: int, equal: int, relevant: int) -> float:
    """Return the mean of 1 over the rank of the first of ``relevant`` among ``equal`` items."""
    place_J = np.arange(1.0, equal - relevant + 2)
    log_J = _log_choose(equal - place_J, np.full_like(place_J, relevant - 1.0))
    chance_J = np.exp(log_J - _log_choose(np.array([float(equal)]), np.array([float(relevant)])))
    return float((chance_J / (above + place_J)).sum())
