"""What a strategy is: of the slices of one volume, it keeps some that stand for the others.

Two guards hold for every strategy. Slices of mostly air are left out before any comparison: they
resemble each other wherever they lie. And a slice never stands for one further away than a maximal
gap in mm: anatomy repeats itself, and the two ends of a head look alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medssl.config.choice import Configurable
from medssl.curation.slices import VolumeSlices

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Places = NDArray[np.int64]

Reason = Literal["kept", "similar", "thinned", "air", "flat"]
"""Why a slice has its weight: kept; dropped for a similar one, or only to make it fewer; mostly
air; or of too little information."""

NOBODY: Final = -1
_TOLERANCE_MM: Final = 1e-4
_DECIMALS: Final = 6
"""Of a score: what a machine's own logarithm or square root adds lies far beyond."""


@dataclass(frozen=True, eq=False)
class Reduction:
    """What became of every slice of one volume.

    Attributes:
        kept: (N,) whether it is drawn from.
        reasons: (N,) words of ``Reason``.
        representative: (N,) the kept slice that a dropped one is shown by; -1 where there is none.
        score: (N,) what the two were compared by; not a number where they were not.
        threshold: what the score had to reach; not a number where nothing was compared.
    """

    kept: Bools
    reasons: tuple[Reason, ...]
    representative: Places
    score: Floats
    threshold: float = float("nan")


class Strategy(Configurable):
    """Reduces the slices of one volume; knows nothing of other volumes, files or workers."""

    class Config(Configurable.Config):
        min_foreground: Annotated[float, Field(ge=0, le=1)] = 0.05
        """Slices with a smaller share of anything but air are left out."""
        max_gap_mm: Annotated[float, Field(gt=0)] = 12.0
        """A slice never stands for one further away than this."""
        dropped_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
        """Weight of a slice that another stands for; a kept one has 1."""

    version: ClassVar[int] = 1
    """Counts up when the same options would keep other slices."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def spec(self) -> str:
        """What made a row of the sampling table."""
        return f"{self.config.name}/{self.version}"

    def reduce(self, slices: VolumeSlices) -> Reduction:
        """Say of every slice whether it is kept, and which one stands for it."""
        raise NotImplementedError

    def gate(self, slices: VolumeSlices) -> list[Reason | None]:
        """Return why a slice cannot be kept, None where it can.

        A volume whose every slice is mostly air keeps the fullest ones.
        """
        least = min(self.config.min_foreground, float(slices.foreground.max()))
        return [None if share >= least else "air" for share in slices.foreground]


class Leader(Strategy):
    """Keeps the lexicographically first maximal independent set of slices, in order of rank.

    Two slices are joined when they are alike and at most ``max_gap_mm`` apart. Going down the
    ranking, a slice is dropped if and only if it is joined to a kept one of better rank; the best
    of those represents it. So every dropped slice has a kept representative it was compared with,
    no two kept ones are joined, and chains (a like b, b like c) never swallow c.
    """

    def reduce(self, slices: VolumeSlices) -> Reduction:
        """Compare every kept slice with those of lower rank that are still there."""
        gated = self.gate(slices)
        described = self.describe(slices)
        count, threshold = len(slices), self.threshold
        kept, representative = np.zeros(count, bool), np.full(count, NOBODY, np.int64)
        score = np.full(count, np.nan)
        left = np.array([i for i in self.ranking(slices) if gated[i] is None], np.int64)
        while left.size:
            leader, left = int(left[0]), left[1:]
            kept[leader] = True
            apart_mm = np.abs(slices.positions_mm[left] - slices.positions_mm[leader])
            near = left[apart_mm <= self.config.max_gap_mm + _TOLERANCE_MM]
            scores = np.round(self.scores(described, leader, near), _DECIMALS)
            alike = scores <= threshold if self.is_distance else scores >= threshold
            representative[near[alike]], score[near[alike]] = leader, scores[alike]
            left = left[representative[left] == NOBODY]
        reasons: list[Reason] = [
            gated[i] or ("kept" if kept[i] else "similar") for i in range(count)
        ]
        return Reduction(kept, tuple(reasons), representative, score, threshold)

    is_distance: ClassVar[bool] = False
    """Whether a small score, not a large one, says that two slices are alike."""

    @property
    def threshold(self) -> float:
        """The score from which two slices are alike."""
        raise NotImplementedError

    def ranking(self, slices: VolumeSlices) -> list[int]:
        """Return the slices, the best first: along the body, unless a strategy says otherwise."""
        return list(range(len(slices)))

    def describe(self, slices: VolumeSlices) -> Any:
        """Return whatever ``scores`` compares, made once for all slices."""
        raise NotImplementedError

    def scores(self, described: Any, one: int, others: Places) -> Floats:
        """Return how one slice compares with each of ``others``."""
        raise NotImplementedError


def thinned(
    slices: VolumeSlices, gated: Sequence[Reason | None], kept: Bools, max_gap_mm: float
) -> Reduction:
    """Return a reduction that compared nothing: a kept slice stands for the nearest others.

    The score is their distance in mm. A slice further than ``max_gap_mm`` from every kept one is
    represented by none.
    """
    count, leaders = len(slices), np.flatnonzero(kept)
    apart_mm = np.abs(slices.positions_mm[:, None] - slices.positions_mm[None, leaders])
    nearest = apart_mm.argmin(axis=1)
    distance_mm = apart_mm[np.arange(count), nearest]
    shown = ~kept & np.array([reason is None for reason in gated])
    shown &= distance_mm <= max_gap_mm + _TOLERANCE_MM
    reasons: list[Reason] = [gated[i] or ("kept" if kept[i] else "thinned") for i in range(count)]
    return Reduction(
        kept,
        tuple(reasons),
        np.where(shown, leaders[nearest], NOBODY),
        np.where(shown, np.round(distance_mm, _DECIMALS), np.nan),
        max_gap_mm,
    )
