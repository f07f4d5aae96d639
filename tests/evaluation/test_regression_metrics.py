import numpy as np
import pytest
from matplotlib.image import imread

from medssl.evaluation.regression_metrics import regression_metrics, save_agreement


def test_metrics_by_hand():
    found = regression_metrics([1, 2, 3, np.nan], np.array([2.0, 2.0, 5.0, 9.0]))
    # differences 1, 0, 2: mean 1, standard deviation 1
    assert found["cases"] == 3
    assert found["mae"] == pytest.approx(1)
    assert found["rmse"] == pytest.approx((5 / 3) ** 0.5)
    assert found["r2"] == pytest.approx(1 - 5 / 2)
    assert found["bias"] == pytest.approx(1)
    assert (found["limit_low"], found["limit_high"]) == pytest.approx((1 - 1.96, 1 + 1.96))


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_their_slow_twins(seed):
    rng = np.random.default_rng(seed)
    targets, predictions = rng.normal(50, 10, 20), rng.normal(52, 12, 20)
    found = regression_metrics(targets, predictions)
    pairs, mean = list(zip(targets, predictions, strict=True)), sum(targets) / 20
    squares = sum((p - t) ** 2 for t, p in pairs)
    bias = sum(p - t for t, p in pairs) / 20
    spread = (sum((p - t - bias) ** 2 for t, p in pairs) / 19) ** 0.5
    assert found["mae"] == pytest.approx(sum(abs(p - t) for t, p in pairs) / 20)
    assert found["rmse"] == pytest.approx((squares / 20) ** 0.5)
    assert found["r2"] == pytest.approx(1 - squares / sum((t - mean) ** 2 for t in targets))
    assert found["limit_high"] == pytest.approx(bias + 1.96 * spread)


def test_limits_hold_95_percent_of_normal_differences():
    rng = np.random.default_rng(0)
    targets = rng.normal(60, 10, 20000)
    predictions = targets + rng.normal(3, 2, 20000)
    found = regression_metrics(targets, predictions)
    inside = (predictions - targets > found["limit_low"]) & (
        predictions - targets < found["limit_high"]
    )
    assert np.mean(inside) == pytest.approx(0.95, abs=0.005)


def test_too_few_cases_leave_out_what_they_do_not_define():
    one = regression_metrics([3.0], np.array([4.0]))
    assert (one["mae"], one["bias"]) == (1, 1)
    assert np.isnan([one["r2"], one["limit_low"], one["limit_high"]]).all()
    none = regression_metrics([np.nan], np.array([4.0]))
    assert np.isnan([none["mae"], none["rmse"], none["bias"]]).all()
    equal = regression_metrics([3.0, 3.0], np.array([3.0, 4.0]))
    assert np.isnan(equal["r2"])


def test_the_figure_appears_whole_also_with_one_case(tmp_path):
    rng = np.random.default_rng(0)
    save_agreement(tmp_path / "many.png", rng.normal(size=20), rng.normal(size=20), "ml")
    save_agreement(tmp_path / "one.png", [1.0], np.array([2.0]), "ml")
    sizes = {imread(path).shape for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 2
    assert len(sizes) == 1
