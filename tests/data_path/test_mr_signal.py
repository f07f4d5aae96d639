"""Signal equations against pulse-by-pulse loops, closed forms of the papers, and their limits."""

import math

import numpy as np
import pytest

from medssl.data.mr_signal import Maps, Scan, simulate

PD, R1, R2S, MT = 80.0, 1.1, 22.0, 1.5
TISSUES = [(80.0, 1.1, 22.0, 1.5), (100.0, 0.25, 2.0, 0.0), (65.0, 2.4, 45.0, 2.1)]


def value(scan, tissue=(PD, R1, R2S, MT)):
    maps = Maps(*(np.full((1, 1, 1), number, np.float64) for number in tissue))
    return float(simulate(maps, scan)[0, 0, 0])


def relax(m, r1, time_s):
    return 1 + (m - 1) * math.exp(-time_s * r1)


def train(m, r1, scan, flip_deg, count):
    for _ in range(count):
        m = relax(m * math.cos(math.radians(flip_deg)), r1, scan.spacing_s)
    return m


@pytest.mark.parametrize("tissue", TISSUES)
@pytest.mark.parametrize("sequence", ["gre", "spgr"])
@pytest.mark.parametrize("mt_pulse", [False, True])
def test_gradient_echo_is_the_steady_state_of_its_pulses(tissue, sequence, mt_pulse):
    scan = Scan(sequence=sequence, tr_s=0.05, te_s=0.01, flip_deg=15, mt_pulse=mt_pulse)
    pd, r1, r2s, mt = tissue
    m = 1.0
    for _ in range(4000):
        left = m * math.cos(math.radians(15)) * (1 - mt / 100 * mt_pulse)
        m = relax(left, r1, 0.05)
    expected = pd * math.sin(math.radians(15)) * m * math.exp(-0.01 * r2s)
    assert value(scan, tissue) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("tissue", TISSUES)
def test_spin_echoes_are_what_is_left_after_90_degrees(tissue):
    pd, r1, r2s, _ = tissue
    fse = Scan(sequence="fse", tr_s=3, te_s=0.09, r2_share=0.7)
    decay = math.exp(-0.09 * 0.7 * r2s)
    assert value(fse, tissue) == pytest.approx(pd * relax(0, r1, 3) * decay, rel=1e-5)
    flair = Scan(sequence="flair", tr_s=4, ti_s=1.5, te_s=0.09, r2_share=0.7)
    m = 0.0
    for _ in range(3):
        m = relax(-relax(0, r1, 4 - 1.5), r1, 1.5)
    assert value(flair, tissue) == pytest.approx(pd * abs(m) * decay, rel=1e-5)


@pytest.mark.parametrize("tissue", TISSUES)
def test_mprage_is_the_middle_of_its_train_in_the_steady_state(tissue):
    scan = Scan(
        sequence="mprage", tr_s=2.1, ti_s=0.9, te_s=0.003, flip_deg=9,
        pulses=160, spacing_s=0.006, efficiency=0.9,
    )  # fmt: skip
    pd, r1, r2s, _ = tissue
    m = middle = 1.0
    for _ in range(40):
        m = relax(-0.9 * m, r1, 0.9 - 0.48)
        middle = train(m, r1, scan, 9, 80)
        m = relax(train(m, r1, scan, 9, 160), r1, 2.1 - 0.9 - 0.48)
    expected = pd * math.sin(math.radians(9)) * abs(middle) * math.exp(-0.003 * r2s)
    assert value(scan, tissue) == pytest.approx(expected, rel=1e-5)


def test_mp2rage_is_the_ratio_of_its_two_trains():
    scan = Scan(
        sequence="mp2rage", tr_s=5, ti_s=0.8, ti2_s=2.2, te_s=0.003, flip_deg=4, flip2_deg=5,
        pulses=120, spacing_s=0.006, efficiency=0.95,
    )  # fmt: skip
    m, signals = 1.0, (0.0, 0.0)
    for _ in range(40):
        m = relax(-0.95 * m, R1, 0.8 - 0.36)
        first = train(m, R1, scan, 4, 60)
        m = relax(train(m, R1, scan, 4, 120), R1, 2.2 - 0.8 - 0.72)
        second = train(m, R1, scan, 5, 60)
        m = relax(train(m, R1, scan, 5, 120), R1, 5 - 2.2 - 0.36)
        signals = first * math.sin(math.radians(4)), second * math.sin(math.radians(5))
    expected = signals[0] * signals[1] / (signals[0] ** 2 + signals[1] ** 2)
    assert value(scan) == pytest.approx(expected, rel=1e-4)
    assert value(scan, (0.0, R1, R2S, MT)) == -0.5


def test_limits():
    long = {"tr_s": 1e4, "te_s": 0.0}
    assert value(Scan(sequence="fse", **long)) == pytest.approx(PD)
    assert value(Scan(sequence="gre", flip_deg=90, **long)) == pytest.approx(PD)
    assert value(Scan(sequence="gre", flip_deg=90, tr_s=0, te_s=0)) == 0
    null = Scan(sequence="flair", ti_s=math.log(2) / R1, **long)
    assert value(null) == pytest.approx(0, abs=1e-5)
    # one excitation in the middle of nothing: plain inversion recovery
    once = Scan(sequence="mprage", ti_s=0.5, flip_deg=90, pulses=1, spacing_s=0.0, **long)
    assert value(once) == pytest.approx(PD * abs(1 - 2 * math.exp(-0.5 * R1)), rel=1e-5)
    ernst = math.degrees(math.acos(math.exp(-0.05 * R1)))
    angles = [
        value(Scan(sequence="spgr", tr_s=0.05, te_s=0, flip_deg=ernst + d)) for d in (-1, 0, 1)
    ]
    assert max(angles) == angles[1], "the Ernst angle gives most"


def test_the_field_scales_the_rates_and_values_below_0_count_as_0():
    scan = Scan(sequence="fse", tr_s=2, te_s=0.05)
    other = Scan(sequence="fse", tr_s=2, te_s=0.05, r1_factor=0.5, r2s_factor=2.0)
    assert value(other) == pytest.approx(value(scan, (PD, R1 / 2, R2S * 2, MT)), rel=1e-6)
    assert value(scan, (-1.0, R1, R2S, MT)) == 0
    assert value(scan, (PD, R1, -5.0, MT)) == value(scan, (PD, R1, 0.0, MT))
