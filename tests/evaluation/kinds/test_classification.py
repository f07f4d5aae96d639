"""Every number of an evaluated classification against predictions and scores made by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    recall_score,
    roc_auc_score,
)

from medssl.evaluation.calibration import (
    calibration_errors,
    fit_temperature_of_classes,
    fit_temperature_of_events,
    reliability_table,
)
from medssl.evaluation.classification_metrics import choose_thresholds
from medssl.evaluation.kinds.classification import most_confident, predicted_classes
from medssl.inference.predictor import Predictor
from tests.evaluation.kinds.tables import cases_of, judged, trained

NAN = float("nan")
MODELS = ("pretrained", "scratch")


@pytest.fixture(scope="module", params=["binary", "classes", "labels"])
def trial(request, tmp_path_factory):
    columns = {"binary": ["finding"], "classes": ["grade"], "labels": ["one", "two"]}
    run = trained("classification", *columns[request.param])
    out = tmp_path_factory.mktemp("judged") / "out"
    return request.param, run, judged(out, run), pd.read_csv(out / "cases.csv")


def answers(which):
    return {
        "binary": [("finding = 1", lambda row: row["finding"] == "1", 1)],
        "classes": [(f"grade = {n}", lambda row, n=n: row["grade"] == str(n), n) for n in range(3)],
        "labels": [
            (name, lambda row, name=name: NAN if row[name] == "" else row[name] == "1", n)
            for n, name in enumerate(("one", "two"))
        ],
    }[which]


def by_hand(which, run, model, part):
    """Return keys, logits and, by answer, targets and probabilities of one part."""
    cases, volumes = cases_of(run, part)
    predictor = Predictor.load(run / model)
    logits = np.stack([predictor.outputs(volume) for volume in volumes])
    found = {}
    for name, truth, channel in answers(which):
        targets = np.array([float(truth(case.targets)) for case in cases])
        found[name] = targets, [probability(which, row, channel) for row in logits]
    return [case.case_key for case in cases], logits, found


def probability(which, logits, channel):
    if which == "labels":
        return 1 / (1 + np.exp(-logits[channel]))
    return np.exp(logits[channel]) / np.sum(np.exp(logits))


def cuts_of(chosen, name):
    """Return thresholds; null is one that nothing reaches."""
    return {at: np.inf if cut is None else cut for at, cut in chosen["thresholds"][name].items()}


def slow(column, targets, scores, scaled, cut):
    """Return a metric as its definition has it; NaN where the cases do not define it."""
    known = ~np.isnan(targets)
    truth, said, scaled = targets[known], np.array(scores)[known], np.array(scaled)[known]
    if column in {"auroc", "balanced_accuracy"} and len(set(truth)) < 2:
        return NAN
    return {
        "auroc": lambda: roc_auc_score(truth, said),
        "auprc": lambda: average_precision_score(truth, said),
        "sensitivity_at_specificity": lambda: recall_score(truth, said >= cut["at_specificity"]),
        "specificity_at_sensitivity": lambda: recall_score(
            truth, said >= cut["at_sensitivity"], pos_label=0
        ),
        "f1": lambda: f1_score(truth, said >= cut["best_f1"]),
        "accuracy": lambda: accuracy_score(truth, said >= cut["best_f1"]),
        "balanced_accuracy": lambda: balanced_accuracy_score(truth, said >= cut["best_f1"]),
        "brier": lambda: np.mean([(a - b) ** 2 for a, b in zip(truth, said, strict=True)]),
        "ece": lambda: calibration_errors(reliability_table(truth, said, bins=10)).expected,
        "ece_scaled": lambda: (
            calibration_errors(reliability_table(truth, scaled, bins=10)).expected
        ),
    }[column]()


@pytest.mark.parametrize("model", MODELS)
def test_every_score_is_that_of_predictions_made_by_hand(trial, model):
    which, run, metrics, table = trial
    keys, _, found = by_hand(which, run, model, "test")
    chosen = metrics["chosen_on_validation"][model]
    for name, (targets, scores) in found.items():
        rows = table[(table["model"] == model) & (table["answer"] == name)]
        assert rows["case_key"].tolist() == keys
        np.testing.assert_allclose(rows["target"], targets)
        np.testing.assert_allclose(rows["probability"], scores, rtol=1e-6)
        for column, by_model in metrics["scores"].items():
            if name not in by_model[model]:
                continue
            cut = cuts_of(chosen, name)
            twin = slow(column, targets, scores, rows["probability_scaled"], cut)
            assert by_model[model][name]["value"] == pytest.approx(twin), (column, name)


@pytest.mark.parametrize("model", MODELS)
def test_thresholds_and_temperature_are_those_of_validation_alone(trial, model):
    which, run, metrics, _ = trial
    _, logits, found = by_hand(which, run, model, "val")
    chosen = metrics["chosen_on_validation"][model]
    for name, (targets, scores) in found.items():
        cut = choose_thresholds(targets, np.array(scores))
        assert cuts_of(chosen, name) == pytest.approx(vars(cut))
    truth = np.stack([targets for targets, _ in found.values()], axis=1)
    if which == "labels":
        temperature = fit_temperature_of_events(truth, logits)
    else:
        numbers = truth[:, 0] if which == "binary" else truth.argmax(axis=1)
        temperature = fit_temperature_of_classes(numbers.astype(int), logits)
    assert chosen["temperature"] == pytest.approx(temperature, rel=1e-4)


def test_the_mean_is_over_answers_and_the_headline_is_of_it(trial):
    which, _, metrics, _ = trial
    scores = metrics["scores"]["auroc"]["scratch"]
    alone = [found["value"] for name, found in scores.items() if name != "mean"]
    answer = metrics["headline"]["answer"]
    assert answer == ("finding = 1" if which == "binary" else "mean")
    assert scores[answer]["value"] == pytest.approx(np.mean(alone))
    difference = metrics["differences"]["auroc"][answer]["difference"]
    twins = [metrics["scores"]["auroc"][model][answer]["value"] for model in MODELS]
    assert difference == pytest.approx(twins[0] - twins[1])


def test_patients_that_are_not_known_of_do_not_count(trial):
    which, _, metrics, table = trial
    rows = table[(table["model"] == "scratch") & table["target"].notna()]
    for name, of_answer in rows.groupby("answer"):
        found = metrics["scores"]["auprc"]["scratch"][name]
        assert found["patients"] == of_answer["patient_key"].nunique()
    if which == "labels":
        assert table["target"].isna().any()


def test_of_several_classes_the_most_probable_one_is_judged(trial):
    which, run, metrics, _ = trial
    if which != "classes":
        assert "all classes" not in metrics["scores"]["accuracy"]["scratch"]
        return
    cases, volumes = cases_of(run, "test")
    predictor = Predictor.load(run / "pretrained")
    chosen = [int(predictor.outputs(volume).argmax()) for volume in volumes]
    truth = [int(case.targets["grade"]) for case in cases]
    scores = {
        name: by_model["pretrained"]["all classes"]["value"]
        for name, by_model in metrics["scores"].items()
        if "all classes" in by_model["pretrained"]
    }
    assert scores == pytest.approx(
        {
            "accuracy": accuracy_score(truth, chosen),
            "balanced_accuracy": balanced_accuracy_score(truth, chosen),
        }
    )


def test_folds_choose_on_cases_that_they_did_not_train_on(tmp_path):
    folds = [trained("classification", "finding", fold=fold) for fold in (0, 1)]
    metrics = judged(tmp_path / "out", *folds)
    logits, numbers = [], []
    for run in folds:  # each answers for its own validation
        cases, volumes = cases_of(run, "val")
        predictor = Predictor.load(run / "scratch")
        logits += [predictor.outputs(volume) for volume in volumes]
        numbers += [int(case.targets["finding"]) for case in cases]
    found = metrics["chosen_on_validation"]["scratch"]
    assert found["temperature"] == pytest.approx(
        fit_temperature_of_classes(np.array(numbers), np.stack(logits)), rel=1e-4
    )
    assert any("had not trained on it" in note for note in metrics["notes"])
    cases, volumes = cases_of(folds[0], "test")
    members = [Predictor.load(run / "scratch") for run in folds]
    mean = [np.mean([member.outputs(v) for member in members], axis=0) for v in volumes]
    twin = roc_auc_score(
        [case.targets["finding"] == "1" for case in cases], [m[1] - m[0] for m in mean]
    )
    assert metrics["scores"]["auroc"]["scratch"]["finding = 1"]["value"] == pytest.approx(twin)


def test_judging_validation_cases_is_told_to_flatter(tmp_path):
    metrics = judged(tmp_path / "out", trained("classification", "finding"), split="val")
    assert any("which flatters" in note for note in metrics["notes"])


def test_the_most_confident_answers_are_right_or_wrong_and_of_different_cases():
    table = pd.DataFrame(
        {
            "case_key": ["a", "a", "b", "c", "d", "e"],
            "model": "m",
            "target": [1, 1, 0, 1, 0, NAN],
            "probability": [0.99, 0.98, 0.9, 0.2, 0.45, 1.0],
        }
    )
    right, wrong = most_confident(table, "m", 2)
    assert right["case_key"].tolist() == ["a", "d"]
    assert wrong["case_key"].tolist() == ["b", "c"]


def test_of_several_classes_the_most_probable_one_is_right_or_wrong():
    table = pd.DataFrame(
        {
            "case_key": ["a"] * 3 + ["b"] * 3,
            "model": "m",
            "answer": list("xyz") * 2,
            "target": [1, 0, 0, 1, 0, 0],
            "probability": [0.4, 0.3, 0.3, 0.2, 0.45, 0.35],
        }
    )
    right, wrong = most_confident(table, "m", 2, several_classes=True)
    assert right[["case_key", "answer"]].to_numpy().tolist() == [["a", "x"]]
    assert wrong[["case_key", "answer"]].to_numpy().tolist() == [["b", "y"]]


def test_a_case_of_unknown_class_has_no_predicted_class_to_be_right():
    table = pd.DataFrame(
        {
            "case_key": ["a", "a", "b", "b"],
            "patient_key": ["p", "p", "q", "q"],
            "model": "m",
            "answer": ["x", "y"] * 2,
            "target": [0, 1, NAN, NAN],
            "probability": [0.3, 0.7, 0.6, 0.4],
        }
    )
    found = predicted_classes(table)
    assert found["predicted"].tolist() == [1, 0]
    assert found["target"].tolist()[0] == 1
    assert np.isnan(found["target"].tolist()[1])
