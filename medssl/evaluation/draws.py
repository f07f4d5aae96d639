"""Patients drawn anew, left out one by one, and exchanged between two models: once for all metrics.

The same numbers as ``intervals.bootstrap_statistic`` and, but for the luck of the exchanges, as
``comparisons.compare_statistics``, for statistics of weighted cases (``weighted``).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from medssl.evaluation.comparisons import Comparison
from medssl.evaluation.intervals import (
    ANYTHING,
    NAN,
    Floats,
    Resampling,
    StatisticEstimate,
    bca_interval,
    draw_counts,
)
from medssl.evaluation.weighted import Weighted

_AT_ONCE: Final = 2_000_000
"""Weights in memory."""
_ROUNDING: Final = 1e-12


class Draws:
    """How chance is let into the cases of some patients."""

    def __init__(self, patient_keys: Sequence[str], how: Resampling) -> None:
        """Draw nothing yet.

        Args:
            patient_keys: Whose each case is.
            how: Number of draws and of exchanges, confidence and seed.
        """
        names, patient_of_N = np.unique(np.asarray(patient_keys, dtype=str), return_inverse=True)
        self.patients, self.how = len(names), how
        self._patient_of_N: NDArray[np.intp] = patient_of_N

    def estimate(
        self, statistic: Weighted, bounds: tuple[float, float] = ANYTHING
    ) -> StatisticEstimate:
        """Return a statistic of all cases and its interval; see ``bootstrap_statistic``."""
        value = self._value(statistic)
        if self.patients < 2 or np.isnan(value):  # noqa: PLR2004 - nothing to resample
            return StatisticEstimate(
                value=value, low=NAN, high=NAN, patients=self.patients, undefined_draws=0
            )
        draws_R = self._of(statistic, self._drawn)
        defined, low, high = draws_R[~np.isnan(draws_R)], NAN, NAN
        if 2 * len(defined) > self.how.resamples:
            without_P = self._of(statistic, 1 - np.eye(self.patients))
            known = without_P[~np.isnan(without_P)]
            low, high = bca_interval(defined, value, known, self.how.confidence, bounds)
        return StatisticEstimate(
            value=value,
            low=low,
            high=high,
            patients=self.patients,
            undefined_draws=self.how.resamples - len(defined),
        )

    def compare(
        self, first: Weighted, second: Weighted, both: Weighted, bounds: tuple[float, float]
    ) -> Comparison:
        """Return how much two models differ in a statistic; see ``compare_statistics``.

        Args:
            first: The statistic of one model's answers.
            second: The statistic of the other one's.
            both: The statistic of both models' answers side by side, ``weighted.pooled``.
            bounds: What the difference can be.
        """
        found = self.estimate(lambda weights_RN: first(weights_RN) - second(weights_RN), bounds)
        return Comparison(
            difference=found.value,
            low=found.low,
            high=found.high,
            patients=found.patients,
            p_value=NAN if np.isnan(found.value) else self._p_value(both, abs(found.value)),
            is_exact=2**self.patients <= self.how.permutations,
        )

    def _p_value(self, both: Weighted, observed: float) -> float:
        """Return how often an exchange of the models' answers differs as much, patient by patient.

        All 2^P exchanges where these are few, else a sample of them and the data themselves
        (Phipson & Smyth 2010, Stat Appl Genet Mol Biol 9:39).
        """
        exchanged_R = self._of(both, self._exchanges, _side_by_side)
        others_R = self._of(both, 1 - self._exchanges, _side_by_side)
        apart_R = np.abs(exchanged_R - others_R)
        defined = apart_R[~np.isnan(apart_R)]
        as_far = int(np.sum(defined >= observed * (1 - _ROUNDING)))
        if 2**self.patients <= self.how.permutations:
            return as_far / len(defined)
        return (1 + as_far) / (1 + len(defined))

    def _value(self, statistic: Weighted) -> float:
        if not self.patients:
            return NAN
        return float(statistic(np.ones((1, len(self._patient_of_N))))[0])

    def _of(
        self,
        statistic: Weighted,
        weights_RP: Floats,
        spread: Callable[[Floats], Floats] | None = None,
    ) -> Floats:
        """Return a statistic under every row of patients' weights, a few at a time."""
        return np.concatenate(
            [
                statistic(spread(weights_RN) if spread else weights_RN)
                for weights_RN in self._of_cases(weights_RP)
            ]
        )

    def _of_cases(self, weights_RP: Floats) -> Iterator[Floats]:
        rows = max(1, _AT_ONCE // len(self._patient_of_N))
        for start in range(0, len(weights_RP), rows):
            yield weights_RP[start : start + rows, self._patient_of_N]

    @cached_property
    def _drawn(self) -> Floats:
        """How often each patient is drawn, in the draws of ``bootstrap_statistic``."""
        rng, shape = np.random.default_rng(self.how.seed), (self.how.resamples, self.patients)
        return draw_counts(rng.integers(self.patients, size=shape), self.patients)

    @cached_property
    def _exchanges(self) -> Floats:
        """Whether a patient's answers stay with their model, 1, or are exchanged, 0."""
        if 2**self.patients <= self.how.permutations:
            return np.array(list(product((1.0, 0.0), repeat=self.patients)))
        rng = np.random.default_rng(self.how.seed)
        drawn = rng.integers(2, size=(self.how.permutations, self.patients))
        return drawn.astype(np.float64)


def _side_by_side(stays_RN: Floats) -> Floats:
    return np.concatenate([stays_RN, 1 - stays_RN], axis=1)
