"""Settings of MR sequences, drawn from ranges, and the grey values that a picture makes of them.

Ranges are those of Chalcroft et al., "Unified 3D MRI Representations via Sequence-Invariant
Contrastive Learning" (SASHIMI 2025), but for times that no scanner could keep:
an echo comes before the next excitation, inversion and echo fit into a repetition, and trains of
excitations between inversions.
"""

import dataclasses
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.special import ndtri

from medssl.config.base import Config
from medssl.data.augment import Probability
from medssl.data.mr_signal import Scan, Sequence
from medssl.data.views import FloatArray

Range = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
Percent = Annotated[float, Field(ge=0, le=100)]
LogRange = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
DRAWS = 8
"""Numbers that the settings of any sequence take."""
BINS = 256


def _between(limits: tuple[float, float], u: float) -> float:
    low, high = limits
    return float(low + u * (high - low))


def _log_between(limits: tuple[float, float], u: float) -> float:
    low, high = limits
    return float(low * (high / low) ** u)


def _check_fit(ranges: "Mprage | Mp2rage", *rooms_s: float) -> None:
    """Raise ``ValueError`` unless half of the longest train is as short as every room for it."""
    half_s = ranges.pulses[1] * ranges.spacing_s[1] / 2
    if half_s > min(rooms_s) + 1e-9:
        raise ValueError(
            f"half of the longest train of excitations takes {half_s:g} s, but the settings leave "
            f"{min(rooms_s):g} s for it: fewer pulses, closer ones, or other tr_s and ti_s"
        )


class Ranges(Config):
    """Ranges from which the settings of one sequence are drawn, evenly but where stated."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        for name, value in self:
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"{name} must rise from low to high, found {value[0]}, {value[1]}")
        return self

    def scan(self, u: NDArray[np.float64]) -> Scan:
        """Return the settings that numbers between 0 and 1 stand for."""
        raise NotImplementedError


class GradientEcho(Ranges):
    """Of a spoiled gradient echo."""

    te_s: Range = (0.002, 0.08)
    """Echo time; never longer than the repetition time."""
    tr_s: Range = (0.005, 0.8)
    """Repetition time."""
    flip_deg: Range = (5.0, 50.0)
    """Flip angle."""
    sequence: Sequence = "spgr"
    """What it is called."""

    @model_validator(mode="after")
    def _echoes_come_in_time(self) -> Self:
        if self.te_s[0] > self.tr_s[0]:
            raise ValueError(
                f"the shortest te_s, {self.te_s[0]:g}, is longer than the shortest tr_s, "
                f"{self.tr_s[0]:g}: the echo would come after the next excitation"
            )
        return self

    def scan(self, u: NDArray[np.float64]) -> Scan:
        tr_s = _between(self.tr_s, u[0])
        te_s = _between((self.te_s[0], min(self.te_s[1], tr_s)), u[1])
        flip_deg = _between(self.flip_deg, u[2])
        return Scan(sequence=self.sequence, tr_s=tr_s, te_s=te_s, flip_deg=flip_deg)


class FastSpinEcho(Ranges):
    """Of a fast spin echo."""

    te_s: Range = (0.02, 0.15)
    """Effective echo time."""
    tr_s: Range = (2.0, 8.0)
    """Repetition time."""

    def scan(self, u: NDArray[np.float64]) -> Scan:
        return Scan(sequence="fse", tr_s=_between(self.tr_s, u[0]), te_s=_between(self.te_s, u[1]))


class Flair(Ranges):
    """Of a spin echo behind an inversion."""

    te_s: Annotated[float, Field(gt=0)] = 0.02
    """Median of the echo time, which is log-normal."""
    te_dex: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of its decimal logarithm."""
    tr_s: LogRange = (0.001, 5.0)
    """Repetition time; even on a logarithmic scale, from where the shortest inversion and the echo
    fit into it."""
    ti_s: LogRange = (0.001, 3.0)
    """Inversion time, likewise; the echo comes before the next inversion."""

    @model_validator(mode="after")
    def _fits_a_repetition(self) -> Self:
        if self.ti_s[0] + self.te_s > self.tr_s[1]:
            raise ValueError(
                f"the shortest ti_s and te_s take {self.ti_s[0] + self.te_s:g} s, more than the "
                f"longest tr_s, {self.tr_s[1]:g}"
            )
        return self

    def scan(self, u: NDArray[np.float64]) -> Scan:
        shortest_s, longest_s = self.ti_s[0], self.tr_s[1]
        te_s = min(self.te_s * 10 ** (self.te_dex * float(ndtri(u[2]))), longest_s - shortest_s)
        tr_s = _log_between((max(self.tr_s[0], shortest_s + te_s), longest_s), u[0])
        ti_s = _log_between((shortest_s, max(min(self.ti_s[1], tr_s - te_s), shortest_s)), u[1])
        return Scan(sequence="flair", tr_s=tr_s, ti_s=ti_s, te_s=te_s)


class Mprage(Ranges):
    """Of an inversion and one train of small flips."""

    tr_s: Range = (1.9, 2.5)
    """From one inversion to the next."""
    ti_s: Range = (0.6, 1.2)
    """From the inversion to the middle of the train."""
    te_s: Range = (0.002, 0.004)
    """Echo time."""
    flip_deg: Range = (5.0, 12.0)
    """Flip angle."""
    pulses: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] = (100, 200)
    """Excitations of the train."""
    spacing_s: Range = (0.005, 0.006)
    """From one to the next."""
    efficiency: tuple[Probability, Probability] = (0.8, 1.0)
    """Share that the inversion inverts."""

    @model_validator(mode="after")
    def _train_fits(self) -> Self:
        _check_fit(self, self.ti_s[0], self.tr_s[0] - self.ti_s[1])
        return self

    def scan(self, u: NDArray[np.float64]) -> Scan:
        return Scan(
            sequence="mprage",
            tr_s=_between(self.tr_s, u[0]),
            ti_s=_between(self.ti_s, u[1]),
            te_s=_between(self.te_s, u[2]),
            flip_deg=_between(self.flip_deg, u[3]),
            pulses=round(_between(self.pulses, u[4])),
            spacing_s=_between(self.spacing_s, u[5]),
            efficiency=_between(self.efficiency, u[6]),
        )


class Mp2rage(Ranges):
    """Of an inversion and two trains of small flips.

    The published repetition time of 2.3 s would begin the next inversion inside the second train.
    """

    tr_s: Range = (5.0, 5.0)
    """From one inversion to the next."""
    ti_s: Range = (0.6, 0.9)
    """To the middle of the first train."""
    ti2_s: Range = (2.2, 2.2)
    """To the middle of the second."""
    te_s: Range = (0.002, 0.004)
    """Echo time; it cancels."""
    flip_deg: Range = (3.0, 6.0)
    """Flip angles, drawn for each train."""
    pulses: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] = (100, 200)
    """Excitations of a train."""
    spacing_s: Range = (0.005, 0.006)
    """From one to the next."""
    efficiency: tuple[Probability, Probability] = (0.8, 1.0)
    """Share that the inversion inverts."""

    @model_validator(mode="after")
    def _trains_fit(self) -> Self:
        halves = (self.ti2_s[0] - self.ti_s[1]) / 2
        _check_fit(self, self.ti_s[0], halves, self.tr_s[0] - self.ti2_s[1])
        return self

    def scan(self, u: NDArray[np.float64]) -> Scan:
        return Scan(
            sequence="mp2rage",
            tr_s=_between(self.tr_s, u[0]),
            ti_s=_between(self.ti_s, u[1]),
            ti2_s=_between(self.ti2_s, u[2]),
            te_s=self.te_s[0],
            flip_deg=_between(self.flip_deg, u[3]),
            flip2_deg=_between(self.flip_deg, u[4]),
            pulses=round(_between(self.pulses, u[5])),
            spacing_s=_between(self.spacing_s, u[6]),
            efficiency=_between(self.efficiency, u[7]),
        )


class ProtocolConfig(Config):
    """Which sequences are simulated, and at which field."""

    sequences: Annotated[tuple[Sequence, ...], Field(min_length=1)] = (
        "mprage",
        "mp2rage",
        "gre",
        "fse",
        "flair",
        "spgr",
    )
    """One of them is drawn for every contrast."""
    field_t: LogRange = (0.3, 7.0)
    """Field strength of the simulated scanner."""
    map_field_t: Annotated[float, Field(gt=0)] = 3.0
    """Field strength at which the maps were measured."""
    r1_exponent: float = -0.38
    """R1 goes with this power of the field: brain, 0.2 to 7 T (Rooney et al. 2007, MRM 57:308)."""
    r2s_exponent: float = 0.6
    """R2* likewise: brain, 1.5 to 7 T (Peters et al. 2007, Magn Reson Imaging 25:748)."""
    r2_share: Range = (0.5, 1.0)
    """R2 over R2*, of which spin echoes know and the maps do not; 1 is what was published."""
    mt_probability: Probability = 0.5
    """Chance of a pulse off resonance in gradient echoes, where the maps hold MT."""
    mprage: Mprage = Mprage()
    """Settings of MPRAGE."""
    mp2rage: Mp2rage = Mp2rage()
    """Settings of MP2RAGE."""
    gre: GradientEcho = GradientEcho(sequence="gre", tr_s=(0.005, 5.0))
    """Settings of the gradient echo with repetition times of any length."""
    spgr: GradientEcho = GradientEcho()
    """Settings of the fast spoiled gradient echo."""
    fse: FastSpinEcho = FastSpinEcho()
    """Settings of the fast spin echo."""
    flair: Flair = Flair()
    """Settings of the inversion recovery."""


class GreyConfig(Config):
    """What grey values become of a signal."""

    percentiles: tuple[Percent, Percent] = (0.5, 95.0)
    """Percentiles of the crop that become 0 and 1."""
    equalise: bool = False
    """Make all grey values equally frequent, as published; then scans must be equalised as well
    wherever the encoder is used."""


def draw_scan(config: ProtocolConfig, rng: np.random.Generator) -> Scan:
    """Draw one sequence and its settings; the generator advances equally whatever comes out."""
    sequence = config.sequences[int(rng.integers(len(config.sequences)))]
    ranges: Ranges = getattr(config, sequence)
    scan = ranges.scan(rng.random(DRAWS))
    field, share, mt = rng.random(3)
    times = _between(config.field_t, field) / config.map_field_t
    return dataclasses.replace(
        scan,
        r1_factor=times**config.r1_exponent,
        r2s_factor=times**config.r2s_exponent,
        r2_share=_between(config.r2_share, share),
        mt_pulse=bool(mt < config.mt_probability),
    )


def to_grey(signal_IJK: FloatArray, config: GreyConfig) -> FloatArray:
    """Return the signal as [0, 1] by its own percentiles, clipped, and equalised where asked for.

    A signal without contrast becomes 0.
    """
    low, high = np.percentile(signal_IJK, config.percentiles)
    if not high > low:
        return np.zeros_like(signal_IJK)
    grey_IJK: FloatArray = np.clip((signal_IJK - np.float32(low)) / np.float32(high - low), 0, 1)
    if not config.equalise:
        return grey_IJK
    counts, edges = np.histogram(grey_IJK, BINS, (0, 1))
    shares = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    return np.asarray(np.interp(grey_IJK, edges, shares), np.float32)
