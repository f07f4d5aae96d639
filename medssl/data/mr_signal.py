"""What an MR sequence shows of tissue whose physical properties are known: signal equations.

Longitudinal magnetisation is followed in units of its equilibrium. All that happens to it between
two pulses, recovery, inversion, a train of small flips, is an affine map ``M -> a M + b``; a
sequence is a chain of them, and in the steady state of a repeated chain ``M = b / (1 - a)``.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medssl.data.views import FloatArray

Sequence = Literal["mprage", "mp2rage", "gre", "fse", "flair", "spgr"]
PERCENT = 100.0


class Maps(NamedTuple):
    """Properties of tissue, each an array of one shape."""

    pd: FloatArray
    """Proton density; the unit does not matter."""
    r1: FloatArray
    """Longitudinal relaxation rate, 1/s."""
    r2s: FloatArray
    """Effective transverse relaxation rate R2*, 1/s."""
    mt: FloatArray | None = None
    """Magnetisation transfer saturation in percent units, where it was measured."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One sequence with its settings: times in s, angles in degrees."""

    sequence: Sequence
    tr_s: float
    """From one excitation, or inversion, to the next."""
    te_s: float
    """Echo time."""
    ti_s: float = 0.0
    """From the inversion to the excitation, or to the centre of the first readout train."""
    ti2_s: float = 0.0
    """To the centre of the second."""
    flip_deg: float = 90.0
    """Flip angle; of the first readout train."""
    flip2_deg: float = 0.0
    """Of the second."""
    pulses: int = 0
    """Excitations of a readout train."""
    spacing_s: float = 0.0
    """From one of them to the next."""
    efficiency: float = 1.0
    """Share of the magnetisation that the inversion inverts."""
    mt_pulse: bool = False
    """Whether a pulse off resonance saturates before every excitation."""
    r1_factor: float = 1.0
    """What the field strength makes of R1."""
    r2s_factor: float = 1.0
    """What it makes of R2*."""
    r2_share: float = 1.0
    """R2 over R2*: what a spin echo cannot refocus."""


class Step(NamedTuple):
    """``M -> a M + b``."""

    a: FloatArray | float
    b: FloatArray | float

    def __call__(self, m: FloatArray | float) -> FloatArray | float:
        return self.a * m + self.b


def simulate(maps: Maps, scan: Scan) -> FloatArray:
    """Return the signal of every voxel, magnitudes but for MP2RAGE; negative values count as 0."""
    positive = Maps(*(None if m is None else np.maximum(m, 0) for m in maps))  # type: ignore[arg-type]
    there = positive._replace(
        r1=positive.r1 * np.float32(scan.r1_factor), r2s=positive.r2s * np.float32(scan.r2s_factor)
    )
    return SIGNALS[scan.sequence](there, scan)


def gradient_echo(maps: Maps, scan: Scan) -> FloatArray:
    """Return ``PD sin(a) (1 - E) / (1 - (1 - d) cos(a) E) e^(-TE R2*)``, ``E = e^(-TR R1)``.

    The steady state of equal excitations whose transverse magnetisation is gone before the next
    (Ernst and Anderson 1966; Haase et al. 1986, FLASH). With a pulse off resonance, d is the MT
    saturation (Helms et al. 2008, MRM 60:1396); 0 otherwise.
    """
    flip = np.deg2rad(scan.flip_deg)
    saturated = maps.mt / PERCENT if scan.mt_pulse and maps.mt is not None else np.float32(0)
    recovered = -np.expm1(-scan.tr_s * maps.r1)
    longitudinal = recovered / (1 - (1 - saturated) * np.cos(flip) * (1 - recovered))
    return _array(maps.pd * np.sin(flip) * longitudinal * _decayed(maps.r2s, scan.te_s))


def fast_spin_echo(maps: Maps, scan: Scan) -> FloatArray:
    """Return ``PD (1 - e^(-TR R1)) e^(-TE R2)``.

    A spin echo after 90 degrees (Hahn 1950; Bernstein et al., Handbook of MRI Pulse Sequences,
    2004), the train of echoes (Hennig et al. 1986, RARE) by its effective echo time.
    """
    r2 = maps.r2s * np.float32(scan.r2_share)
    return _array(maps.pd * -np.expm1(-scan.tr_s * maps.r1) * _decayed(r2, scan.te_s))


def inversion_recovery(maps: Maps, scan: Scan) -> FloatArray:
    """Return ``PD |1 - 2 e^(-TI R1) + e^(-TR R1)| e^(-TE R2)``.

    Inversion, then a spin echo after 90 degrees (Hajnal et al. 1992, FLAIR; Bernstein et al.
    2004): the excitation leaves nothing, the rest of TR recovers, and the inversion turns it over.
    """
    longitudinal = 1 - 2 * np.exp(-scan.ti_s * maps.r1) + np.exp(-scan.tr_s * maps.r1)
    r2 = maps.r2s * np.float32(scan.r2_share)
    return _array(maps.pd * np.abs(longitudinal) * _decayed(r2, scan.te_s))


def mprage(maps: Maps, scan: Scan) -> FloatArray:
    """Return ``PD sin(a) |M| e^(-TE R2*)``, M that of the middle of the readout train.

    Inversion, recovery, a train of small flips, recovery, over and over (Mugler and Brookeman
    1990; its steady state as in Marques et al. 2010, NeuroImage 49:1271, with one train).
    """
    flip = np.deg2rad(scan.flip_deg)
    half_s = scan.pulses * scan.spacing_s / 2
    before = chain(inversion(scan.efficiency), recovery(maps.r1, scan.ti_s - half_s))
    train = _train(maps.r1, scan, flip, scan.pulses)
    start = steady(chain(before, train, recovery(maps.r1, scan.tr_s - scan.ti_s - half_s)))
    middle = chain(before, _train(maps.r1, scan, flip, scan.pulses // 2))(start)
    return _array(maps.pd * np.sin(flip) * np.abs(middle) * _decayed(maps.r2s, scan.te_s))


def mp2rage(maps: Maps, scan: Scan) -> FloatArray:
    """Return ``S1 S2 / (S1^2 + S2^2)``, between -0.5 and 0.5; -0.5 where there is no signal.

    S1 and S2 are the signals in the middle of two readout trains after one inversion (Marques et
    al. 2010, NeuroImage 49:1271, eq. 1 to 3); density and R2* cancel.
    """
    flips = np.deg2rad(scan.flip_deg), np.deg2rad(scan.flip2_deg)
    half_s = scan.pulses * scan.spacing_s / 2
    first = chain(inversion(scan.efficiency), recovery(maps.r1, scan.ti_s - half_s))
    between = recovery(maps.r1, scan.ti2_s - scan.ti_s - 2 * half_s)
    second = chain(first, _train(maps.r1, scan, flips[0], scan.pulses), between)
    last = recovery(maps.r1, scan.tr_s - scan.ti2_s - half_s)
    start = steady(chain(second, _train(maps.r1, scan, flips[1], scan.pulses), last))
    signals = [
        maps.pd * np.sin(flip) * chain(before, _train(maps.r1, scan, flip, scan.pulses // 2))(start)
        for before, flip in ((first, flips[0]), (second, flips[1]))
    ]
    power = signals[0] ** 2 + signals[1] ** 2
    return _array(
        np.where(power > 0, signals[0] * signals[1] / np.where(power > 0, power, 1), -0.5)
    )


SIGNALS = {
    "mprage": mprage,
    "mp2rage": mp2rage,
    "gre": gradient_echo,
    "spgr": gradient_echo,
    "fse": fast_spin_echo,
    "flair": inversion_recovery,
}


def recovery(r1: FloatArray, time_s: float) -> Step:
    """Return what free relaxation for ``time_s`` does."""
    decayed = np.exp(-time_s * r1)
    return Step(decayed, 1 - decayed)


def inversion(efficiency: float) -> Step:
    """Return what an inversion pulse does."""
    return Step(-efficiency, 0.0)


def flips(r1: FloatArray, flip: float, spacing_s: float, count: int) -> Step:
    """Return what ``count`` flips by ``flip`` (radians) do, each followed by ``spacing_s``."""
    decayed = np.exp(-spacing_s * r1)
    once = np.cos(flip) * decayed
    left = once**count
    return Step(left, (1 - decayed) * (1 - left) / (1 - once))


def chain(*steps: Step) -> Step:
    """Return the steps one after the other as one step."""
    return reduce(lambda first, then: Step(then.a * first.a, then.a * first.b + then.b), steps)


def steady(step: Step) -> FloatArray | float:
    """Return the magnetisation that a step leaves as it was."""
    return step.b / (1 - step.a)


def _train(r1: FloatArray, scan: Scan, flip: float, count: int) -> Step:
    return flips(r1, flip, scan.spacing_s, count)


def _decayed(rate: FloatArray, time_s: float) -> NDArray[np.float32]:
    return np.asarray(np.exp(-time_s * rate))


def _array(values: NDArray[np.floating]) -> FloatArray:
    return np.asarray(values, dtype=np.float32)
