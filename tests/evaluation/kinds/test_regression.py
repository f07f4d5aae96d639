"""Every number of an evaluated regression against predictions and errors made by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score, root_mean_squared_error

from medssl.inference.predictor import Predictor
from tests.evaluation.kinds.tables import cases_of, judged, trained


@pytest.fixture(scope="module", params=[("age",), ("age", "height")], ids=len)
def trial(request, tmp_path_factory):
    run = trained("regression", *request.param)
    out = tmp_path_factory.mktemp("judged") / "out"
    return request.param, run, judged(out, run), pd.read_csv(out / "cases.csv"), out


def errors(columns, run, model):
    """Return targets and predictions by column, and whose they are."""
    cases, volumes = cases_of(run, "test")
    predictor = Predictor.load(run / model)
    predicted = np.stack([predictor.outputs(volume) for volume in volumes])
    targets = {
        name: np.array([float(case.targets[name] or "nan") for case in cases]) for name in columns
    }
    return (
        {name: (targets[name], predicted[:, n]) for n, name in enumerate(columns)},
        [case.patient_key for case in cases],
        predictor.task.config.stds,
    )


def over_patients(values, patients):
    by_patient = {}
    for value, patient in zip(values, patients, strict=True):
        if not np.isnan(value):
            by_patient.setdefault(patient, []).append(value)
    return np.mean([np.mean(of_one) for of_one in by_patient.values()])


@pytest.mark.parametrize("model", ["pretrained", "scratch"])
def test_every_score_is_that_of_predictions_made_by_hand(trial, model):
    columns, run, metrics, _, _ = trial
    found, patients, _ = errors(columns, run, model)
    for name, (targets, predicted) in found.items():
        known = ~np.isnan(targets)
        truth, said = targets[known], predicted[known]
        twins = {
            "absolute_error": over_patients(np.abs(predicted - targets), patients),
            "rmse": root_mean_squared_error(truth, said),
            "r2": r2_score(truth, said),
            "bias": np.mean([b - a for a, b in zip(truth, said, strict=True)]),
        }
        scores = {column: metrics["scores"][column][model][name]["value"] for column in twins}
        assert scores == pytest.approx(twins)


def test_errors_of_several_columns_are_joined_in_units_of_their_spread(trial):
    columns, run, metrics, _, _ = trial
    if len(columns) == 1:
        assert metrics["headline"] == {"metric": "absolute_error", "answer": "age"}
        return
    assert metrics["headline"] == {"metric": "scaled_error", "answer": "mean"}
    assert "mean" not in metrics["scores"]["absolute_error"]["scratch"]
    found, patients, stds = errors(columns, run, "scratch")
    each = [
        np.abs(predicted - targets) / std
        for (targets, predicted), std in zip(found.values(), stds, strict=True)
    ]
    twin = over_patients(np.nanmean(each, axis=0), patients)
    assert metrics["scores"]["scaled_error"]["scratch"]["mean"]["value"] == pytest.approx(twin)


def test_the_cases_that_are_farthest_off_are_shown(trial):
    columns, _, _, table, out = trial
    column = "absolute_error" if len(columns) == 1 else "scaled_error"
    first = table[table["model"] == "pretrained"].groupby("case_key")[column].mean()
    worst = first.sort_values(ascending=False).index[:3]
    page = (out / "report.html").read_text()
    assert f"Middle planes of {', '.join(worst)}, with every" in page


def test_groups_of_patients_are_measured(trial):
    columns, run, metrics, _, _ = trial
    women, men = metrics["subgroups"]["models"]["scratch"]
    assert [(row["attribute"], row["group"]) for row in (women, men)] == [
        ("sex", "F"),
        ("sex", "M"),
    ]
    found, patients, stds = errors(columns, run, "scratch")
    each = [
        np.abs(predicted - targets) / (std if len(columns) > 1 else 1)
        for (targets, predicted), std in zip(found.values(), stds, strict=True)
    ]
    cases, _ = cases_of(run, "test")
    inside = np.array([case.about["sex"] == "F" for case in cases])
    by_case = each[0] if len(each) == 1 else np.nanmean(each, axis=0)
    twin = over_patients(by_case[inside], np.array(patients)[inside])
    assert women["value"] == pytest.approx(twin)
    assert (men["note"], men["value"]) == ("fewer than 5 patients", None)
