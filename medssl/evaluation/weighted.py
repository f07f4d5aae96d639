"""Statistics of weighted cases, many weightings at once: what makes thousands of draws quick.

A bootstrap draw counts how often each case is drawn, a jackknife counts all but one patient, and an
exchange of two models counts each case with one of their two answers. A statistic that knows cases
with counts answers all of these in a few operations on arrays.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Weighted = Callable[[Floats], Floats]
"""Takes weights ``(draws, N)`` of cases; returns a number per draw, NaN where it is undefined."""
Factory = Callable[[Floats, Floats], Weighted]
"""Takes targets and what a model says ``(N,)``; a case with NaN in either does not count."""
NAN: Final = float("nan")
_ROUNDING: Final = 1e-12


def _shares(above_R: Floats, below_R: Floats) -> Floats:
    """Return ``above / below``, NaN where nothing is below."""
    shares_R: Floats = np.full(len(above_R), NAN)
    return np.divide(above_R, below_R, out=shares_R, where=below_R > 0)


def _known(targets_N: Floats, said_N: Floats) -> NDArray[np.intp]:
    return np.flatnonzero(~np.isnan(targets_N) & ~np.isnan(said_N))


def auroc(targets_N: Floats, scores_N: Floats) -> Weighted:
    """Return the share of pairs of a positive and a negative case in order, ties by half."""
    places, starts, positive = _ranked(targets_N, scores_N, ascending=True)

    def of(weights_RN: Floats) -> Floats:
        weights_RK = weights_RN[:, places]
        both_R2 = _by_score(weights_RK * positive, starts), _by_score(weights_RK, starts)
        positives_RS, negatives_RS = both_R2[0], both_R2[1] - both_R2[0]
        lower_RS = np.cumsum(negatives_RS, axis=1) - negatives_RS / 2
        pairs_R = positives_RS.sum(axis=1) * negatives_RS.sum(axis=1)
        return _shares((positives_RS * lower_RS).sum(axis=1), pairs_R)

    return of


def auprc(targets_N: Floats, scores_N: Floats) -> Weighted:
    """Return average precision: the sum over scores of precision times the rise of recall."""
    places, starts, positive = _ranked(targets_N, scores_N, ascending=False)

    def of(weights_RN: Floats) -> Floats:
        weights_RK = weights_RN[:, places]
        positives_RS = _by_score(weights_RK * positive, starts)
        found_RS = np.cumsum(positives_RS, axis=1)
        called_RS = np.cumsum(_by_score(weights_RK, starts), axis=1)
        precision_RS = np.divide(
            found_RS, called_RS, out=np.zeros_like(found_RS), where=called_RS > 0
        )
        return _shares((positives_RS * precision_RS).sum(axis=1), positives_RS.sum(axis=1))

    return of


def _ranked(
    targets_N: Floats, scores_N: Floats, *, ascending: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Return known cases in the order of their scores, where each score starts, and targets."""
    kept = _known(targets_N, scores_N)
    scores = scores_N[kept] if ascending else -scores_N[kept]
    places = kept[np.argsort(scores, kind="stable")]
    ordered = scores_N[places]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(places)])
    return places, starts, (targets_N[places] == 1).astype(np.float64)


def _by_score(weights_RK: Floats, starts: NDArray[np.intp]) -> Floats:
    if len(starts) == weights_RK.shape[1]:
        return weights_RK
    return np.asarray(np.add.reduceat(weights_RK, starts, axis=1), np.float64)


def share_of(value: Callable[[Floats, Floats], Floats], among: Any = None) -> Factory:
    """Return the factory of a mean over cases: of ``value``, among those where ``among`` holds.

    Args:
        value: Of targets and what a model says, case by case.
        among: The same for which cases count, true or false; None: all.
    """

    def factory(targets_N: Floats, said_N: Floats) -> Weighted:
        kept = _known(targets_N, said_N)
        pair = targets_N[kept], said_N[kept]
        counted = np.ones(len(kept)) if among is None else among(*pair).astype(np.float64)
        values = value(*pair) * counted
        return lambda weights_RN: _shares(
            weights_RN[:, kept] @ values, weights_RN[:, kept] @ counted
        )

    return factory


brier: Final = share_of(lambda targets, said: (targets - said) ** 2)
"""Mean squared distance of probabilities from what came true (Brier 1950, one of its two terms)."""
sensitivity: Final = share_of(lambda _, called: called, lambda targets, _: targets == 1)
"""Share of positive cases that a decision, 0 or 1, calls positive."""
specificity: Final = share_of(lambda _, called: 1 - called, lambda targets, _: targets == 0)
"""Share of negative cases that a decision, 0 or 1, calls negative."""
accuracy: Final = share_of(lambda targets, said: (targets == said).astype(np.float64))
"""Share of cases that are decided rightly."""
bias: Final = share_of(lambda targets, said: said - targets)
"""Mean of prediction less target."""
_mean_square: Final = share_of(lambda targets, said: (said - targets) ** 2)


def balanced_accuracy(targets_N: Floats, called_N: Floats) -> Weighted:
    """Return the mean of sensitivity and specificity of decisions, 0 or 1."""
    found, spared = sensitivity(targets_N, called_N), specificity(targets_N, called_N)
    return lambda weights_RN: (found(weights_RN) + spared(weights_RN)) / 2


def recall_over_classes(targets_N: Floats, chosen_N: Floats) -> Weighted:
    """Return the mean, over classes that occur, of the share that is recognised."""
    recalls = [
        share_of(lambda _, chosen, c=c: chosen == c, lambda targets, _, c=c: targets == c)  # type: ignore[misc]
        for c in np.unique(targets_N[~np.isnan(targets_N)])
    ]
    return mean_of([recall(targets_N, chosen_N) for recall in recalls])


def f1(targets_N: Floats, called_N: Floats) -> Weighted:
    """Return ``2 TP / (2 TP + FP + FN)``; undefined where there is no positive case."""
    kept = _known(targets_N, called_N)
    positive, called = targets_N[kept] == 1, called_N[kept]
    terms_K3 = np.stack([positive * called, called, positive], axis=1).astype(np.float64)

    def of(weights_RN: Floats) -> Floats:
        hits_R, called_R, positives_R = (weights_RN[:, kept] @ terms_K3).T
        shares_R = _shares(2 * hits_R, called_R + positives_R)
        return np.where(positives_R > 0, shares_R, NAN)

    return of


def calibration_error(bins: int) -> Factory:
    """Return the factory of the expected calibration error over bins of equal width.

    Naeini et al. 2015, AAAI; the bins are those of ``calibration.reliability_table``.
    """
    ends = np.linspace(0, 1, bins + 1)[1:]

    def factory(targets_N: Floats, probabilities_N: Floats) -> Weighted:
        kept = _known(targets_N, probabilities_N)
        bin_of_K = np.searchsorted(ends, probabilities_N[kept], side="left")
        gaps_K = targets_N[kept] - probabilities_N[kept]
        gaps_KB = np.equal.outer(bin_of_K, np.arange(bins)) * gaps_K[:, None]

        def of(weights_RN: Floats) -> Floats:
            weights_RK = weights_RN[:, kept]
            return _shares(np.abs(weights_RK @ gaps_KB).sum(axis=1), weights_RK.sum(axis=1))

        return of

    return factory


def root_mean_square(targets_N: Floats, predicted_N: Floats) -> Weighted:
    """Return the root of the mean squared error."""
    of = _mean_square(targets_N, predicted_N)
    return lambda weights_RN: np.sqrt(of(weights_RN))


def r2(targets_N: Floats, predicted_N: Floats) -> Weighted:
    """Return ``1 - SSE / SST``; undefined where the targets do not vary."""
    kept = _known(targets_N, predicted_N)
    targets, errors = targets_N[kept], targets_N[kept] - predicted_N[kept]
    centred = targets - (targets.mean() if len(targets) else 0.0)  # or squares would cancel badly

    def of(weights_RN: Floats) -> Floats:
        weights_RK = weights_RN[:, kept]
        mean_R = _shares(weights_RK @ centred, weights_RK.sum(axis=1))
        spread_R = weights_RK @ centred**2 - weights_RK.sum(axis=1) * mean_R**2
        varied_R = spread_R > _ROUNDING * (weights_RK @ centred**2)
        spread_R = np.where(varied_R, spread_R, 0.0)
        return 1 - _shares(weights_RK @ errors**2, spread_R)

    return of


def mean_of(statistics: Iterable[Weighted]) -> Weighted:
    """Return the mean of those statistics that are defined, draw by draw."""
    each = list(statistics)

    def of(weights_RN: Floats) -> Floats:
        values_SR = np.stack([statistic(weights_RN) for statistic in each])
        defined_SR = ~np.isnan(values_SR)
        return _shares(np.where(defined_SR, values_SR, 0.0).sum(axis=0), defined_SR.sum(axis=0))

    return of


def pooled(factory: Factory, targets_N: Floats, said_N: Sequence[Floats]) -> Weighted:
    """Return a statistic of the answers of several models side by side, ``(draws, models N)``."""
    return factory(np.tile(targets_N, len(said_N)), np.concatenate(said_N))
