"""A score before it is one number: so that it has an interval, and a difference to a twin's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, Self

from medssl.evaluation.frozen.few_shot import balanced_accuracy
from medssl.evaluation.intervals import (
    Estimate,
    Floats,
    Resampling,
    bootstrap_statistic,
    mean_over_patients,
)

Bounds = tuple[float, float]
SHARE: Final = (0.0, 1.0)


class Result(Protocol):
    """One score of one encoder."""

    def estimate(self, how: Resampling) -> Estimate:
        """Return its value and interval."""

    def difference(self, other: Self, how: Resampling) -> Estimate:
        """Return how much larger it is than another encoder's, on the same patients."""


@dataclass(frozen=True)
class PerCase:
    """A mean over patients of what each case scored; NaN does not count."""

    values_N: Floats
    patients: tuple[str, ...]
    bounds: Bounds = SHARE
    """What a score can be."""

    def estimate(self, how: Resampling) -> Estimate:
        """Return the mean over patients, each counting once."""
        return mean_over_patients(
            self.values_N.tolist(),
            self.patients,
            resamples=how.resamples,
            confidence=how.confidence,
            seed=how.seed,
            bounds=self.bounds,
        )

    def difference(self, other: "PerCase", how: Resampling) -> Estimate:
        """Return the mean over patients of the difference, case by case."""
        apart_N = self.values_N - other.values_N
        return PerCase(apart_N, self.patients, _apart(self.bounds)).estimate(how)


@dataclass(frozen=True)
class OfAnswers:
    """A statistic of all answers together, such as an area under the curve."""

    statistic: Callable[[Floats, Floats], float]
    """Of ``y_MC`` and ``shares_MC``, or rows of them; NaN where it is undefined."""
    y_MC: Floats
    shares_MC: Floats
    patients: tuple[str, ...]

    def estimate(self, how: Resampling) -> Estimate:
        """Return the statistic; patients are drawn anew with all their cases."""
        return self._drawn(self.statistic, (self.y_MC, self.shares_MC), how, SHARE)

    def difference(self, other: "OfAnswers", how: Resampling) -> Estimate:
        """Return the difference of the statistics, of the same patients in every draw."""

        def apart(y_MC: Floats, first_MC: Floats, second_MC: Floats) -> float:
            return self.statistic(y_MC, first_MC) - self.statistic(y_MC, second_MC)

        cases = (self.y_MC, self.shares_MC, other.shares_MC)
        return self._drawn(apart, cases, how, _apart(SHARE))

    def _drawn(
        self,
        statistic: Callable[..., float],
        cases: tuple[Floats, ...],
        how: Resampling,
        bounds: Bounds,
    ) -> Estimate:
        found = bootstrap_statistic(statistic, cases, self.patients, how=how, bounds=bounds)
        return Estimate(mean=found.value, low=found.low, high=found.high, patients=found.patients)


@dataclass(frozen=True)
class PerDraw:
    """Balanced accuracy of many draws of a few shots."""

    right_RM: Floats
    labels: tuple[int, ...]
    patients: tuple[str, ...]

    def estimate(self, how: Resampling) -> Estimate:
        """Return the mean over draws, with an interval over draws and patients."""
        return balanced_accuracy(self.right_RM, self.labels, self.patients, how)

    def difference(self, other: "PerDraw", how: Resampling) -> Estimate:
        """Return the same of the difference: both encoders were given the same shots."""
        return PerDraw(self.right_RM - other.right_RM, self.labels, self.patients).estimate(how)


@dataclass(frozen=True)
class OfSet:
    """A number of the whole set, which has no interval: patients drawn twice would change it."""

    value: float
    patients: int

    def estimate(self, _how: Resampling) -> Estimate:
        """Return the number."""
        nan = float("nan")
        return Estimate(mean=self.value, low=nan, high=nan, patients=self.patients)

    def difference(self, other: "OfSet", how: Resampling) -> Estimate:
        """Return the difference of the two numbers."""
        return OfSet(self.value - other.value, self.patients).estimate(how)


def _apart(bounds: Bounds) -> Bounds:
    """Return what a difference of two scores can be."""
    return bounds[0] - bounds[1], bounds[1] - bounds[0]
