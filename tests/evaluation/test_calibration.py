import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from scipy.optimize import minimize
from sklearn.calibration import calibration_curve

from medssl.errors import InputError
from medssl.evaluation.calibration import (
    calibration_errors,
    fit_temperature_of_classes,
    fit_temperature_of_events,
    probabilities_of_classes,
    probabilities_of_events,
    reliability_table,
    save_reliability,
)


def slow_errors(targets, probabilities, bins):
    """Errors over bins of equal width, case by case."""
    expected, largest = 0.0, 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [
            (t, p)
            for t, p in zip(targets, probabilities, strict=True)
            if low < p <= high or (number == 0 and p == 0)
        ]
        if inside:
            gap = abs(sum(t for t, _ in inside) - sum(p for _, p in inside)) / len(inside)
            expected += gap * len(inside) / len(targets)
            largest = max(largest, gap)
    return expected, largest


def drawn(seed, cases=200):
    rng = np.random.default_rng(seed)
    probabilities = rng.random(cases)
    return (rng.random(cases) < probabilities**2).astype(float), probabilities


@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("seed", range(3))
def test_errors_equal_their_slow_twin(seed, bins):
    targets, probabilities = drawn(seed)
    found = calibration_errors(reliability_table(targets, probabilities, bins=bins))
    assert tuple(found) == pytest.approx(slow_errors(targets, probabilities, bins))


def test_bins_are_those_of_scikit_learn():
    targets, probabilities = drawn(0, cases=400)
    table = reliability_table(targets, probabilities, bins=8)
    frequency, mean = calibration_curve(targets, probabilities, n_bins=8)
    assert table["frequency"].to_numpy() == pytest.approx(frequency, abs=1e-12)
    assert table["probability"].to_numpy() == pytest.approx(mean, abs=1e-12)


def test_reliability_by_hand():
    targets, probabilities = [0, 1, 1, 0, 1], np.array([0.0, 0.5, 0.6, 0.7, 1.0])
    table = reliability_table(targets, probabilities, bins=2)
    assert table["low"].tolist() == [0.0, 0.5]
    assert table["cases"].tolist() == [2, 3]
    assert table["probability"].to_numpy() == pytest.approx([0.25, 2.3 / 3])
    assert table["frequency"].to_numpy() == pytest.approx([0.5, 2 / 3])
    assert calibration_errors(table).expected == pytest.approx((0.25 * 2 + 0.1 * 3) / 5)
    assert calibration_errors(table).maximum == pytest.approx(0.25)


def test_an_empty_bin_has_no_row_and_no_cases_no_errors():
    table = reliability_table([1, 0, np.nan], np.array([0.95, 0.91, 0.1]), bins=10)
    assert table["cases"].tolist() == [2]
    empty = reliability_table([], np.empty(0), bins=10)
    assert np.isnan(calibration_errors(empty)).all()


def test_a_temperature_undoes_the_one_that_was_applied():
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(20000, 3)) * 1.5
    chance = probabilities_of_classes(honest, 1.0)
    targets = (rng.random((20000, 1)) > chance.cumsum(axis=1)).sum(axis=1)
    assert fit_temperature_of_classes(targets, honest * 2.5) == pytest.approx(2.5, rel=0.05)
    events = (rng.random(honest.shape) < probabilities_of_events(honest, 1.0)).astype(float)
    assert fit_temperature_of_events(events, honest * 0.4) == pytest.approx(0.4, rel=0.05)


def slow_nll(temperature, targets, logits):
    total = 0.0
    for target, row in zip(targets, logits, strict=True):
        scaled = [value / temperature for value in row]
        total -= scaled[target] - np.log(sum(np.exp(value) for value in scaled))
    return total / len(targets)


def test_a_temperature_is_at_the_minimum_that_another_search_finds():
    rng = np.random.default_rng(3)
    targets = rng.integers(0, 4, 60)
    logits = 4 * (rng.normal(size=(60, 4)) + np.eye(4)[targets])
    other = minimize(lambda t: slow_nll(t[0], targets, logits), [1.0], bounds=[(0.05, 20)])
    assert fit_temperature_of_classes(targets, logits) == pytest.approx(other.x[0], rel=1e-3)
    two = np.stack([np.zeros(60), logits[:, 0]], axis=1)
    of_two = fit_temperature_of_classes((targets == 0).astype(int), two)
    assert fit_temperature_of_events(targets == 0, logits[:, 0]) == pytest.approx(of_two, rel=1e-4)


def test_a_temperature_changes_no_decision_and_makes_errors_smaller():
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 3, 400)
    logits = 6 * (rng.normal(size=(400, 3)) + np.eye(3)[targets])
    temperature = fit_temperature_of_classes(targets, logits)
    errors = []
    for used in (1.0, temperature):
        probabilities = probabilities_of_classes(logits, used)
        assert (probabilities.argmax(axis=1) == logits.argmax(axis=1)).all()
        right = probabilities.argmax(axis=1) == targets
        table = reliability_table(right, probabilities.max(axis=1), bins=15)
        errors.append(calibration_errors(table))
    assert errors[1].expected < errors[0].expected / 3


def test_targets_nobody_knows_do_not_move_the_temperature():
    rng = np.random.default_rng(2)
    targets, logits = rng.integers(0, 2, (50, 2)).astype(float), rng.normal(size=(50, 2))
    known = np.ones((50, 2), bool)
    known[::3, 1] = False
    missing = np.where(known, targets, np.nan)
    found = fit_temperature_of_events(missing, logits)
    assert found == pytest.approx(fit_temperature_of_events(targets[known], logits[known]))


def test_separated_cases_become_certain_and_none_are_refused():
    targets, logits = np.array([0, 1]), np.eye(2)
    temperature = fit_temperature_of_classes(targets, logits)
    assert 0.01 <= temperature < 0.1
    assert probabilities_of_classes(logits, temperature)[0, 0] > 0.9999
    with pytest.raises(InputError, match="without cases"):
        fit_temperature_of_events([np.nan], np.array([1.0]))


def test_the_figure_has_a_panel_per_table(tmp_path):
    tables = {f"model {n}": reliability_table(*drawn(n), bins=15) for n in range(2)}
    save_reliability(tmp_path / "one.png", {"model 0": tables["model 0"]})
    save_reliability(tmp_path / "two.png", tables)
    widths = [imread(tmp_path / f"{name}.png").shape[1] for name in ("one", "two")]
    assert widths[1] == pytest.approx(2 * widths[0], abs=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]


pairs = st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30)


@given(pairs, st.integers(1, 20))
def test_every_case_is_in_one_bin_that_holds_it(pairs, bins):
    targets, probabilities = (np.array(column, float) for column in zip(*pairs, strict=True))
    table = reliability_table(targets, probabilities, bins=bins)
    assert table["cases"].sum() == len(targets)
    assert len(table) <= bins
    assert (table["probability"] >= table["low"] - 1e-12).all()
    assert (table["probability"] <= table["high"] + 1e-12).all()
    expected, maximum = calibration_errors(table)
    assert 0 <= expected <= maximum + 1e-12 <= 1 + 1e-9
