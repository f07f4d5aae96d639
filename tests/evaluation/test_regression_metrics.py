import numpy as np
import pytest
from matplotlib.image import imread

from medssl.evaluation.regression_metrics import agreement, save_agreement


def test_agreement_by_hand():
    found = agreement([1, 2, 3, np.nan], np.array([2.0, 2.0, 5.0, 9.0]))
    # differences 1, 0, 2: mean 1, standard deviation 1
    assert found == pytest.approx((1, 1 - 1.96, 1 + 1.96))


@pytest.mark.parametrize("seed", range(3))
def test_agreement_equals_its_slow_twin(seed):
    rng = np.random.default_rng(seed)
    targets, predictions = rng.normal(50, 10, 20), rng.normal(52, 12, 20)
    pairs = list(zip(targets, predictions, strict=True))
    bias = sum(p - t for t, p in pairs) / 20
    spread = (sum((p - t - bias) ** 2 for t, p in pairs) / 19) ** 0.5
    twin = bias, bias - 1.96 * spread, bias + 1.96 * spread
    assert agreement(targets, predictions) == pytest.approx(twin)


def test_limits_hold_95_percent_of_normal_differences():
    rng = np.random.default_rng(0)
    targets = rng.normal(60, 10, 20000)
    predictions = targets + rng.normal(3, 2, 20000)
    found = agreement(targets, predictions)
    inside = (predictions - targets > found.limit_low) & (predictions - targets < found.limit_high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.005)


def test_too_few_cases_leave_out_what_they_do_not_define():
    one = agreement([3.0], np.array([4.0]))
    assert one.bias == 1
    assert np.isnan(one[1:]).all()
    assert np.isnan(agreement([np.nan], np.array([4.0]))).all()


def test_the_figure_appears_whole_also_with_one_case(tmp_path):
    rng = np.random.default_rng(0)
    save_agreement(tmp_path / "many.png", rng.normal(size=20), rng.normal(size=20), "ml")
    save_agreement(tmp_path / "one.png", [1.0], np.array([2.0]), "ml")
    sizes = {imread(path).shape for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 2
    assert len(sizes) == 1
