"""Settings stay in their ranges and are possible; grey values come from percentiles."""

import numpy as np
import pytest
from pydantic import ValidationError

from medssl.data.mr_protocols import (
    FastSpinEcho,
    Flair,
    GradientEcho,
    GreyConfig,
    Mp2rage,
    Mprage,
    ProtocolConfig,
    draw_scan,
    to_grey,
)


def test_settings_are_in_their_ranges_and_no_scanner_would_refuse_them():
    config, rng = ProtocolConfig(), np.random.default_rng(0)
    scans = [draw_scan(config, rng) for _ in range(3000)]
    assert {scan.sequence for scan in scans} == set(config.sequences)
    for scan in scans:
        assert scan.te_s > 0
        assert (0.3 / 3) ** -0.38 >= scan.r1_factor >= (7 / 3) ** -0.38
        assert 0.5 <= scan.r2_share <= 1
        ranges = getattr(config, scan.sequence)
        if scan.sequence in ("gre", "spgr"):
            assert ranges.te_s[0] <= scan.te_s <= min(ranges.te_s[1], scan.tr_s)
            assert 5 <= scan.flip_deg <= 50
        if scan.sequence == "flair":
            assert 0.001 <= scan.ti_s <= 3
            assert scan.ti_s + scan.te_s <= scan.tr_s + 1e-9
            assert scan.tr_s <= 5
        if scan.sequence in ("mprage", "mp2rage"):
            half = scan.pulses * scan.spacing_s / 2
            last = scan.ti2_s or scan.ti_s
            assert scan.ti_s >= half
            assert scan.tr_s - last >= half - 1e-9
            assert last == scan.ti_s or last - scan.ti_s >= 2 * half
    dex = np.log10([s.te_s for s in scans if s.sequence == "flair"])
    assert dex.mean() == pytest.approx(np.log10(0.02), abs=0.02)
    assert dex.std() == pytest.approx(0.1, abs=0.02)


def test_a_long_inversion_or_a_late_echo_finds_its_repetition():
    for ranges in (Flair(ti_s=(1, 3)), Flair(te_s=4.9, te_dex=3)):
        for u in np.random.default_rng(0).random((500, 8)):
            scan = ranges.scan(u)
            assert ranges.ti_s[0] <= scan.ti_s <= ranges.ti_s[1]
            assert scan.ti_s + scan.te_s <= scan.tr_s + 1e-9
            assert scan.tr_s <= ranges.tr_s[1] + 1e-9


def test_the_generator_advances_equally_whatever_is_drawn():
    ends = set()
    for sequence in ProtocolConfig().sequences:
        rng = np.random.default_rng(0)
        draw_scan(ProtocolConfig(sequences=(sequence,)), rng)
        ends.add(rng.random())
    assert len(ends) == 1


def test_percentiles_become_0_and_1():
    signal = np.random.default_rng(0).random((12, 12, 12), dtype=np.float32) * 50 + 3
    low, high = np.percentile(signal, (0.5, 95))
    grey = to_grey(signal, GreyConfig())
    np.testing.assert_allclose(grey, np.clip((signal - low) / (high - low), 0, 1), atol=1e-6)
    assert (to_grey(np.full_like(signal, 4), GreyConfig()) == 0).all()


def test_equalised_values_are_equally_frequent_and_keep_their_order():
    signal = np.random.default_rng(0).random((20, 20, 20), dtype=np.float32) ** 1.5
    grey = to_grey(signal, GreyConfig(percentiles=(0, 100), equalise=True))
    assert np.histogram(grey, 10, (0, 1))[0] / grey.size == pytest.approx(0.1, abs=0.03)
    order = signal.ravel().argsort()
    assert (np.diff(grey.ravel()[order]) >= 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FastSpinEcho(te_s=(2, 1)), "te_s must rise"),
        (lambda: GradientEcho(te_s=(0.02, 0.08)), "after the next excitation"),
        (lambda: Flair(ti_s=(1, 3), tr_s=(0.5, 1)), "take 1.02 s, more than the longest tr_s, 1"),
        (lambda: Mprage(pulses=(100, 900)), "fewer pulses"),
        (lambda: Mp2rage(tr_s=(2.3, 2.3)), "leave 0.1 s for it"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValidationError, match=message):
        make()
