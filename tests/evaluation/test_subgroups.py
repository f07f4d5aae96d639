from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from medssl.errors import InputError
from medssl.evaluation.classification_metrics import auroc
from medssl.evaluation.comparisons import holm
from medssl.evaluation.intervals import Resampling, mean_over_patients
from medssl.evaluation.subgroups import (
    AGE_EDGES_YEARS,
    bands,
    shuffle_p_value,
    subgroup_table,
)

QUICK = Resampling(resamples=200, permutations=199)


def made_up(patients=40, seed=0):
    """Dice of two cases a patient; one scanner is worse, sex makes no difference."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(patients):
        scanner = "old" if n % 4 == 0 else "new"
        for case in range(2):
            dice = rng.normal(0.6 if scanner == "old" else 0.85, 0.05)
            key = {"patient_key": f"p{n:02}", "case_key": f"c{n}{case}", "dice": dice}
            rows.append(
                key | {"scanner": scanner, "sex": "FM"[n // 4 % 2], "age_years": 10 + 2 * n}
            )
    return pd.DataFrame(rows)


def slow_shuffle(inside, values):
    """Every choice of as many members as there are, counted."""

    def apart(chosen):
        others = [v for n, v in enumerate(values) if n not in chosen]
        return abs(np.mean([values[n] for n in chosen]) - np.mean(others))

    observed = apart(set(np.flatnonzero(inside)))
    found = [apart(set(c)) for c in combinations(range(len(values)), int(sum(inside)))]
    return np.mean([value >= observed - 1e-12 for value in found])


def test_bands_hold_their_lower_edge_and_name_what_is_not_known():
    found = bands(pd.Series([0, 17.9, 18, 79, 80, None]), AGE_EDGES_YEARS, "years")
    assert found.astype(str).tolist() == [
        "under 18 years", "under 18 years", "18 to under 40 years", "65 to under 80 years",
        "80 years or more", "unknown",
    ]  # fmt: skip
    assert found.min() == "under 18 years"


def test_a_group_has_the_mean_of_its_patients_and_its_difference_to_the_others():
    cases = made_up()
    table = subgroup_table(cases, ["scanner"], ["dice"], how=QUICK).set_index("group")
    by_patient = cases.groupby(["scanner", "patient_key"])["dice"].mean()
    old, new = by_patient["old"], by_patient["new"]
    twin = mean_over_patients(old.to_list(), old.index.to_list(), resamples=200)
    row = table.loc["old"]
    assert (row["patients"], row["cases"]) == (10, 20)
    assert (row["value"], row["low"], row["high"]) == pytest.approx(
        (twin.mean, twin.low, twin.high)
    )
    assert row["difference"] == pytest.approx(old.mean() - new.mean())
    assert row["difference_low"] < row["difference"] < row["difference_high"] < 0
    assert row["p_value"] == pytest.approx(1 / 200)
    assert row["note"] == ""


def test_two_groups_are_one_comparison_told_from_both_sides():
    table = subgroup_table(made_up(), ["scanner", "sex"], ["dice"], how=QUICK)
    old, new = (table[table["group"] == name].iloc[0] for name in ("old", "new"))
    assert old["difference"] == -new["difference"]
    assert (old["difference_low"], old["p_value"]) == (-new["difference_high"], new["p_value"])
    assert old["p_holm"] == new["p_holm"] == pytest.approx(2 / 200)
    firsts = table.groupby("attribute", sort=False).first()
    assert firsts["p_holm"].to_numpy() == pytest.approx(holm(firsts["p_value"].to_list()))
    assert table.loc[table["attribute"] == "sex", "p_holm"].min() > 0.05


def test_one_comparison_is_drawn_once():
    calls = 0

    def counted(values_N):
        nonlocal calls
        calls += 1
        return values_N.mean()

    cases, by_calls = made_up(patients=12), []
    for names in (["a", "b"], ["a", "b", "c"]):
        calls, cases["view"] = 0, np.resize(names, len(cases))
        subgroup_table(cases, ["view"], ["dice"], counted, how=QUICK)
        by_calls.append(calls / len(names))
    # the value of every group, and both sides of every difference: drawn, left out, shuffled
    assert by_calls[0] < 0.7 * by_calls[1]


def test_bands_come_in_their_order():
    cases = made_up()
    cases["age"] = bands(cases["age_years"], AGE_EDGES_YEARS, "years")
    table = subgroup_table(cases, ["age"], ["dice"], how=QUICK)
    assert [name.split()[0] for name in table["group"]] == ["under", "18", "40", "65", "80"]
    assert table["patients"].sum() == 40


def test_groups_too_small_are_named_and_have_no_numbers():
    cases = made_up()
    cases["site"] = np.where(cases["patient_key"] < "p03", "small", "large")
    cases.loc[cases["patient_key"] > "p37", "site"] = None
    table = subgroup_table(cases, ["site"], ["dice"], how=QUICK).set_index("group")
    assert list(table.index) == ["large", "small", "unknown"]
    assert table.loc["small", "note"] == table.loc["unknown", "note"] == "fewer than 5 patients"
    assert (table.loc["small", "patients"], table.loc["unknown", "patients"]) == (3, 2)
    assert np.isnan(table.loc["small", "value"])
    assert table.loc["large", "note"] == ""
    alone = subgroup_table(cases.assign(site="one"), ["site"], ["dice"], how=QUICK).iloc[0]
    assert alone["note"] == "no others to compare with"
    assert np.isfinite(alone["value"])
    few = cases[cases["site"] != "small"]
    few = subgroup_table(few, ["site"], ["dice"], how=QUICK).set_index("group")
    assert few.loc["large", "note"] == "fewer than 5 other patients to compare with"


def test_cases_without_the_metric_do_not_count():
    cases = made_up()
    cases.loc[cases["patient_key"] == "p00", "dice"] = np.nan
    table = subgroup_table(cases, ["scanner"], ["dice"], how=QUICK).set_index("group")
    assert (table.loc["old", "patients"], table.loc["old", "cases"]) == (9, 18)


def test_a_statistic_of_cases_is_measured_by_group_too():
    rng = np.random.default_rng(0)
    cases = made_up()
    cases["target"] = rng.integers(0, 2, len(cases))
    noise = np.where(cases["scanner"] == "old", 5.0, 0.3)
    cases["score"] = cases["target"] + rng.normal(size=len(cases)) * noise
    table = subgroup_table(
        cases, ["scanner"], ["target", "score"], auroc, how=QUICK, bounds=(0, 1)
    ).set_index("group")
    old = cases[cases["scanner"] == "old"]
    assert table.loc["old", "value"] == auroc(old["target"], old["score"].to_numpy())
    assert table.loc["old", "difference_high"] < 0
    assert table.loc["old", "p_value"] < 0.05
    assert table["high"].max() <= 1


def test_a_patient_on_both_sides_counts_on_each():
    cases = made_up(patients=12)
    cases["view"] = np.tile(["a", "b"], 12)
    table = subgroup_table(cases, ["view"], ["dice"], how=QUICK)
    assert table["patients"].tolist() == [12, 12]
    assert table["value"].to_numpy() == pytest.approx(cases.groupby("view")["dice"].mean())


@pytest.mark.parametrize("seed", range(3))
def test_shuffling_comes_near_counting_every_choice(seed):
    rng = np.random.default_rng(seed)
    values, inside = rng.normal(size=9), np.arange(9) < 4
    values[inside] += 1

    def apart(inside_N, values_N):
        return values_N[inside_N].mean() - values_N[~inside_N].mean()

    exact = slow_shuffle(inside, values)
    found = shuffle_p_value(apart, inside, [values], list("abcdefghi"), Resampling())
    assert found == pytest.approx(exact, abs=4 * (exact / 10000) ** 0.5)


def test_units_stay_whole_and_undefined_shuffles_do_not_count():
    inside = np.array([True, True, False, False, False])
    seen = set()

    def apart(inside_N):
        seen.add(tuple(inside_N.tolist()))
        return float("nan") if inside_N[4] else float(inside_N.sum())

    found = shuffle_p_value(
        apart, inside, [], ["a", "a", "b", "b", "c"], Resampling(permutations=99)
    )
    assert {(s[0], s[2]) for s in seen} >= {(True, False), (False, True)}
    assert all(s[0] == s[1] and s[2] == s[3] for s in seen)
    assert found == 1


def test_what_is_missing_is_named():
    with pytest.raises(InputError, match="no column 'site', 'iou'"):
        subgroup_table(made_up(), ["site"], ["iou"])
    with pytest.raises(InputError, match="is of one column"):
        subgroup_table(made_up(), ["sex"], ["dice", "age_years"])
