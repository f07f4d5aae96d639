import math

import pytest
import torch

from medssl.errors import InputError
from medssl.tasks.regression import Regression


def task(**options):
    config = Regression.Config(columns=("age", "size"), **options)
    return config.build(labels=config.labels_of({"age": ("1", "2.5"), "size": ("-3",)}))


@pytest.mark.parametrize(
    ("error", "of"),
    [
        ("l1", abs),
        ("mse", lambda d: d * d),
        ("huber", lambda d: 0.5 * d * d if abs(d) <= 1 else abs(d) - 0.5),
    ],
)
def test_errors_are_in_units_of_the_spread(error, of):
    means, stds = (50.0, 2.0), (10.0, 0.5)
    output = torch.tensor([[0.3, -2.0], [1.5, 0.1]], dtype=torch.float64)
    target = torch.tensor([[60.0, 2.5], [45.0, math.nan]], dtype=torch.float64)
    terms = [
        of(output[n, t].item() - (target[n, t].item() - means[t]) / stds[t])
        for n in range(2)
        for t in range(2)
        if not target[n, t].isnan()
    ]
    found = task(error=error, means=means, stds=stds).loss(output, target)
    assert found.item() == pytest.approx(sum(terms) / 3, abs=1e-6)


def test_the_answer_is_in_units_of_the_columns():
    found = task(means=(50.0, 2.0), stds=(10.0, 0.5)).in_units(torch.tensor([[1.0, -2.0]]))
    assert found.tolist() == [[60.0, 1.0]]


def test_a_number_that_is_missing_is_not_zero():
    target = task().target_of({"age": "3.5", "size": ""})
    assert target[0].item() == 3.5
    assert math.isnan(target[1])


@pytest.mark.parametrize("value", ["secret", "inf", "nan", "1,5"])
def test_what_is_no_number_is_refused_without_being_repeated(value):
    config = Regression.Config(columns=("age",))
    with pytest.raises(InputError, match="1 value\\(s\\) that are no numbers") as caught:
        config.labels_of({"age": ("1", value)})
    assert value not in str(caught.value).replace("no numbers", "")


def test_means_and_spreads_are_one_for_each_column():
    with pytest.raises(ValueError, match="stds has 1 numbers for 2 columns"):
        Regression.Config(columns=("age", "size"), stds=(1.0,))
