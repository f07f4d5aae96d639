"""Keep a slice when it tells enough that the kept ones nearby do not."""

from typing import Annotated, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medssl.curation.joint_histogram import joint_histogram
from medssl.curation.slices import VolumeSlices
from medssl.curation.strategies.base import Floats, Leader, Places, Reason

BITS: Final = 6
BINS: Final = 2**BITS


class Described(NamedTuple):
    """Slices as bin numbers, flat, and the entropy of each in bits."""

    bins_NP: NDArray[np.uint8]
    entropy_N: Floats


class Information(Leader):
    """Normalised mutual information 2 I / (H1 + H2) of 64 x 64 bins, 1 for equal slices.

    It asks whether one slice can be told from the other pixel by pixel, whatever the brightness
    (Studholme et al. 1999 for the family of such measures). Slices of little entropy are left out.
    """

    class Config(Leader.Config):
        min_information: Annotated[float, Field(gt=0, lt=1)] = 0.28
        """Slices that share at least this part of their information are alike."""
        min_entropy_bits: Annotated[float, Field(ge=0, le=BITS)] = 0.5
        """Slices of less entropy show nothing; of 6 bits at most."""

    config: Config

    @property
    def threshold(self) -> float:
        """Return the least shared information of two slices that are alike."""
        return self.config.min_information

    def gate(self, slices: VolumeSlices) -> list[Reason | None]:
        """Leave out slices of little entropy too, unless no slice has more."""
        entropy_N = self.describe(slices).entropy_N
        least = min(self.config.min_entropy_bits, float(entropy_N.max()))
        found = super().gate(slices)
        flat: list[Reason | None] = [
            reason or (None if bits >= least else "flat")
            for reason, bits in zip(found, entropy_N, strict=True)
        ]
        return flat if None in flat else found

    def describe(self, slices: VolumeSlices) -> Described:
        """Sort the pixels into bins of equal width."""
        levels = slices.levels.reshape(len(slices), -1)
        bins_NP = (levels >> (16 - BITS)).astype(np.uint8)
        entropy = [entropy_bits(np.bincount(row, minlength=BINS)) for row in bins_NP]
        return Described(bins_NP, np.array(entropy))

    def scores(self, described: Described, one: int, others: Places) -> Floats:
        """Return the normalised mutual information with each."""
        bins_NP, entropy_N = described
        joint = [joint_histogram(bins_NP[one], bins_NP[other], BINS) for other in others]
        joint_bits = np.array([entropy_bits(counts) for counts in joint])
        marginals = entropy_N[one] + entropy_N[others]
        equal = marginals == 0  # both of one value: nothing to tell apart
        return np.where(equal, 1.0, 2 * (marginals - joint_bits) / np.where(equal, 1.0, marginals))


def entropy_bits(counts: NDArray[np.int64]) -> float:
    """Return Shannon's entropy of a histogram, in bits."""
    there = counts[counts > 0].astype(np.float64)
    total = there.sum()
    return float(np.log2(total) - (there * np.log2(there)).sum() / total)
