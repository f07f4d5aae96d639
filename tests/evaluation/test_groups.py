from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.evaluation.groups import attributes_of, by_group
from medssl.evaluation.intervals import Resampling
from medssl.evaluation.kinds.base import Grouped
from medssl.evaluation.kinds.classification import _mean_auroc
from medssl.labelled.cases import LabelledCase

HOW = Resampling(resamples=100, permutations=100)


def case(number, **about):
    return LabelledCase(
        case_key=f"case-{number:03d}", patient_key=f"p{number}", image=Path("x"), about=about
    )


def test_numbers_become_bands_and_what_nobody_knows_is_left_out():
    cases = [
        case(1, sex="F", age_years="17", scanner=""),
        case(2, sex="M", age_years="70"),
        case(3, age_years="", slice_thickness_mm="2.0"),
    ]
    found = attributes_of(cases)
    assert list(found.columns) == ["sex", "age", "slice thickness"]
    assert found["age"].tolist() == ["under 18 years", "65 to under 80 years", "unknown"]
    assert found["slice thickness"].tolist()[2] == "1.5 to under 3 mm"
    assert found["sex"].isna().tolist() == [False, False, True]


def test_a_set_that_says_nothing_has_no_attributes():
    assert attributes_of([case(1), case(2)]).empty


class Judged:
    """A judge whose headline is the number of the case."""

    def __init__(self, cases):
        self.trial = type("Trial", (), {"cases": cases})
        self.models = {"scratch": None}
        self.headline = type("Metric", (), {"bounds": (-np.inf, np.inf)})

    def grouped(self, table, model):
        return Grouped(table, ["value"], None)


def test_groups_are_those_of_the_cases_and_small_ones_are_only_named():
    cases = [case(n, sex="F" if n < 6 else "M") for n in range(8)]
    table = pd.DataFrame(
        {
            "case_key": [one.case_key for one in cases],
            "patient_key": [one.patient_key for one in cases],
            "value": np.arange(8.0),
        }
    )
    found = by_group(Judged(cases), table, 5, HOW)
    women, men = found["models"]["scratch"]
    assert women["value"] == pytest.approx(np.mean([0, 1, 2, 3, 4, 5]))
    assert "fewer than 5 other patients" in women["note"]
    assert (men["group"], men["patients"], men["note"]) == ("M", 2, "fewer than 5 patients")
    assert np.isnan(men["value"])
    assert by_group(Judged([case(1)]), table, 5, HOW)["why"].startswith("The data set says nothing")


def test_areas_under_curves_of_groups_leave_out_what_is_not_known():
    targets = np.array([1.0, 0, 1, 0, -1]), np.array([-1.0, -1, -1, -1, 1])
    scores = np.array([0.9, 0.8, 0.3, 0.1, 0.5]), np.array([0.5] * 5)
    assert _mean_auroc(*targets, *scores) == pytest.approx(0.75)
