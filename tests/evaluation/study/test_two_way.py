"""Intervals of seeds and patients, against the definition in loops, and against the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from medssl.evaluation.intervals import Resampling, mean_over_patients, pigeonhole_mean
from medssl.evaluation.study.two_way import pseudovalues, two_way_mean

HOW = Resampling(resamples=300)


def table(seeds, patients, of_seeds=1.0, seed=0):
    """Return scores whose true mean is 0; patients differ by 1, and are skewed."""
    rng = np.random.default_rng(seed)
    patient = (rng.gamma(2, 1, (1, patients)) - 2) / 2**0.5
    noise = rng.normal(size=(seeds, patients))
    return of_seeds * rng.normal(size=(seeds, 1)) + patient + 0.5 * noise


def in_loops(values, confidence):
    """Return the interval of Hillis 2007, from his formulas for one test."""
    seeds, patients = len(values), len(values[0])
    mean = sum(map(sum, values)) / (seeds * patients)
    of_seed = [sum(row) / patients for row in values]
    of_patient = [sum(row[p] for row in values) / seeds for p in range(patients)]
    ms_seed = patients * sum((m - mean) ** 2 for m in of_seed) / (seeds - 1)
    ms_patient = seeds * sum((m - mean) ** 2 for m in of_patient) / (patients - 1)
    rest = 0.0
    for s in range(seeds):
        for p in range(patients):
            rest += (values[s][p] - of_seed[s] - of_patient[p] + mean) ** 2
    ms_rest = rest / ((seeds - 1) * (patients - 1))
    numerator = ms_seed + max(ms_patient - ms_rest, 0)
    freedom = min(numerator**2 / (ms_seed**2 / (seeds - 1)), patients - 1)
    half = student.ppf(0.5 + confidence / 2, freedom) * (numerator / (seeds * patients)) ** 0.5
    return mean, mean - half, mean + half


@pytest.mark.parametrize(("seeds", "patients"), [(2, 2), (2, 30), (5, 12)])
def test_it_is_the_definition(seeds, patients):
    values = table(seeds, patients)
    found = two_way_mean(values, Resampling(confidence=0.9))
    assert (found.mean, found.low, found.high) == pytest.approx(in_loops(values.tolist(), 0.9))
    assert found.patients == patients


def test_two_seeds_that_differ_say_next_to_nothing_and_two_that_agree_say_much():
    agree = two_way_mean(table(2, 60, of_seeds=0.0), HOW)
    differ = two_way_mean(table(2, 60, of_seeds=1.0), HOW)
    assert agree.high - agree.low < 0.7
    assert differ.high - differ.low > 5


def test_it_covers_where_percentiles_of_the_pigeonhole_bootstrap_do_not():
    covered, by_percentiles, tries = 0, 0, 300
    for seed in range(tries):
        values = table(3, 40, seed=seed)
        covered += two_way_mean(values, HOW).includes(0.0)
        by_percentiles += pigeonhole_mean(values, resamples=200, seed=seed).includes(0.0)
    assert covered / tries > 0.9
    assert by_percentiles / tries < 0.85


def test_of_one_seed_patients_alone_are_drawn():
    values = table(1, 20)
    keys = [f"{n:02d}" for n in range(20)]
    same = mean_over_patients(values[0].tolist(), keys, resamples=300)
    assert two_way_mean(values, HOW) == same


def test_one_patient_has_a_mean_and_no_interval():
    found = two_way_mean(np.array([[0.4], [0.6]]), HOW)
    assert found.mean == pytest.approx(0.5)
    assert np.isnan([found.low, found.high]).all()


def test_an_interval_ends_where_scores_do():
    found = two_way_mean(np.array([[0.1, 0.9], [0.9, 0.95]]), HOW, (0.0, 1.0))
    assert (found.low, found.high) == (0.0, 1.0)


def test_seeds_without_any_difference_leave_patients_to_decide():
    values = np.repeat(table(1, 10), 3, axis=0)
    found = two_way_mean(values, HOW)
    error = values[0].std(ddof=1) / 10**0.5
    assert found.high - found.mean == pytest.approx(student.ppf(0.975, 9) * error)


@given(st.integers(2, 6), st.integers(2, 9), st.floats(-3, 3), st.integers(0, 99))
def test_it_holds_its_mean_and_moves_along(seeds, patients, shift, seed):
    values = table(seeds, patients, seed=seed)
    found, moved = two_way_mean(values, HOW), two_way_mean(values + shift, HOW)
    assert found.low <= found.mean <= found.high
    assert moved.low == pytest.approx(found.low + shift, abs=1e-6)


def test_what_a_patient_adds_to_a_mean_is_its_value():
    values = np.array([0.2, 0.5, 0.9, 0.4])
    without = np.array([np.delete(values, n).mean() for n in range(4)])
    assert pseudovalues(values.mean(), without) == pytest.approx(values)


def test_pseudovalues_have_the_statistic_for_their_mean():
    values = np.array([0.2, 0.5, 0.9, 0.4])
    without = np.array([np.median(np.delete(values, n)) for n in range(4)])
    found = pseudovalues(float(np.median(values)), without)
    assert found.mean() == pytest.approx(np.median(values))
    assert found[2] - found[0] == pytest.approx(3 * (without[0] - without[2]))
