"""Classifications: how well they rank, decide and know how sure they are."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from medssl.evaluation import weighted
from medssl.evaluation.calibration import reliability_table, save_reliability
from medssl.evaluation.case_figures import save_rows
from medssl.evaluation.classification_metrics import auroc
from medssl.evaluation.exam import Exam
from medssl.evaluation.kinds.base import Grouped, Json, Judge, Judgement, Picture, identity
from medssl.evaluation.kinds.operating import (
    AT_SENSITIVITY,
    AT_SPECIFICITY,
    BEST_F1,
    Chosen,
    Outputs,
    choose,
    names_of,
)
from medssl.evaluation.kinds.statistics import Measure, Statistics
from medssl.evaluation.summary import Metric
from medssl.labelled.cases import LabelledCase
from medssl.runs.progress import track

Floats = weighted.Floats
UNIT: Final = (0.0, 1.0)
AUROC: Final = Metric("auroc", "AUROC", UNIT)
RANKING: Final = Measure(AUROC, "probability", weighted.auroc)
OF_CLASSES: Final = (
    Measure(Metric("accuracy", "accuracy", UNIT), "predicted", weighted.accuracy),
    Measure(
        Metric("balanced_accuracy", "balanced accuracy", UNIT),
        "predicted",
        weighted.recall_over_classes,
    ),
)
ALL: Final = "all classes"
_UNKNOWN: Final = -1.0
_EXAMPLES: Final = 3
_HALF: Final = 0.5
NOTE: Final = (
    "Thresholds and one temperature were chosen on {val} validation cases and never on those "
    "judged here: sensitivity is at the threshold that had {specificity:.0%} specificity there, "
    "specificity at the one that had {sensitivity:.0%} sensitivity there, F1 and the accuracies at "
    "the one of the best F1. Scaled means after the temperature. Calibration errors are over "
    "{bins} bins of equal width."
)
SAME_CASES: Final = (
    "These are the validation cases themselves, so thresholds and temperature were chosen on the "
    "very cases they are judged by, which flatters."
)
FOLDS: Final = (
    "Every validation case was answered by those finetunings alone that had not trained on it, and "
    "the choice is then used for all of them together."
)
RECOGNISED: Final = "Accuracies are of the most probable class."


def measures(bins: int, *, several_classes: bool) -> list[Measure]:
    """Return what is measured of each answer; of several classes decisions are judged apart."""
    lower: dict[str, Any] = {"larger_is_better": False}
    error = weighted.calibration_error(bins)
    decisions = [
        Measure(Metric("f1", "F1", UNIT), BEST_F1, weighted.f1),
        Measure(
            Metric("balanced_accuracy", "balanced accuracy", UNIT),
            BEST_F1,
            weighted.balanced_accuracy,
        ),
        Measure(Metric("accuracy", "accuracy", UNIT), BEST_F1, weighted.accuracy),
    ]
    return [
        RANKING,
        Measure(Metric("auprc", "AUPRC", UNIT), "probability", weighted.auprc),
        Measure(
            Metric("sensitivity_at_specificity", "sensitivity", UNIT),
            AT_SPECIFICITY,
            weighted.sensitivity,
        ),
        Measure(
            Metric("specificity_at_sensitivity", "specificity", UNIT),
            AT_SENSITIVITY,
            weighted.specificity,
        ),
        *(decisions[:1] if several_classes else decisions),
        Measure(Metric("brier", "Brier score", UNIT, **lower), "probability", weighted.brier),
        Measure(Metric("ece", "calibration error", UNIT, **lower), "probability", error),
        Measure(
            Metric("ece_scaled", "calibration error, scaled", UNIT, **lower),
            "probability_scaled",
            error,
        ),
    ]


class ClassificationJudge(Judge):
    """Areas under curves, decisions at thresholds of the validation, and calibration."""

    @property
    def headline(self) -> Metric:
        """Return the area under the curve."""
        return AUROC

    @property
    def answers(self) -> list[str]:
        """Return what is judged: of two classes the second one alone."""
        return [name for _, name in names_of(self.first.task)]

    @property
    def _several_classes(self) -> bool:
        task: Any = self.first.task
        return bool(task.config.one_of_several and len(self.answers) > 1)

    def judge(self, folder: Path) -> Judgement:
        """Score every case; thresholds and temperature are those of validation."""
        tables, chosen = list[pd.DataFrame](), dict[str, Chosen]()
        for model in self.models:
            chosen[model] = choose(self._validation(model), self.config)
            tables.append(chosen[model].table(self._outputs(model), model))
        table = pd.concat(tables, ignore_index=True)
        wanted = measures(self.config.bins, several_classes=self._several_classes)
        metrics = Statistics(table, self.how).summarise(wanted)
        shown = [measure.metric for measure in wanted]
        if self._several_classes:
            of_classes = Statistics(predicted_classes(table), self.how).summarise(OF_CLASSES)
            metrics = {part: metrics[part] | of_classes[part] for part in metrics}
            shown += [measure.metric for measure in OF_CLASSES]
        told = {model: found.told() for model, found in chosen.items()}
        return Judgement(
            table=table,
            metrics=metrics | {"chosen_on_validation": told},
            headline=AUROC,
            answer=self.answer,
            shown=shown,
            pictures=self._pictures(table, folder),
            notes=self._notes(),
        )

    def rows(self, case: LabelledCase, model: str, exam: Exam) -> list[Json]:
        """Return target and probability of every answer."""
        predictor = self.models[model]
        outputs = Outputs.of(predictor, [case], [predictor.outputs(exam.volume)])
        (scores_C,), (truth_C,) = outputs.probabilities(1.0), outputs.truth_NC
        return [
            identity(case, model, name)
            | {"target": truth_C[column], "probability": scores_C[column]}
            for column, name in names_of(predictor.task)
        ]

    def headline_scores(self, table: pd.DataFrame) -> dict[str, Json]:
        """Return the area under the curve, of several answers their mean."""
        found = Statistics(table, self.how).summarise([RANKING], differences=False)
        by_model = found["scores"][AUROC.column]
        return {model: by_answer[self.answer] for model, by_answer in by_model.items()}

    def grouped(self, table: pd.DataFrame, model: str) -> Grouped:
        """Return areas under the curve; what is not known is -1, as groups leave NaN rows out."""
        rows = table[table["model"] == model]
        wide = rows.pivot(
            index=["case_key", "patient_key"],
            columns="answer",
            values=["target", "probability"],
        )
        known = wide[wide["target"].notna().to_numpy().any(axis=1)].fillna(_UNKNOWN)
        pairs = [(part, name) for part in ("target", "probability") for name in self.answers]
        columns = [" ".join(pair) for pair in pairs]
        cases = known[pairs].set_axis(columns, axis="columns").reset_index()
        return Grouped(cases, columns, _mean_auroc)

    def _outputs(self, model: str) -> Outputs:
        predictor, cases = self.models[model], self.trial.cases
        logits = [
            predictor.outputs(self.exam(case).volume) for case in track(cases, f"evaluate {model}")
        ]
        return Outputs.of(predictor, cases, logits)

    def _validation(self, model: str) -> Outputs:
        """Return what models say of the cases that they neither trained on nor are judged by."""
        held = self.trial.val
        logits = [
            self.trial.predictor(model, folds).outputs(self.exam(case).volume)
            for case, folds in track(held, f"validation {model}")
        ]
        return Outputs.of(self.models[model], [case for case, _ in held], logits)

    def _notes(self) -> list[str]:
        config, trial = self.config, self.trial
        notes = [NOTE.format(val=len(trial.val), **config.model_dump())]
        same = {case.case_key for case in trial.cases} & {held.case.case_key for held in trial.val}
        notes += [SAME_CASES] if same else []
        notes += [FOLDS] if any(len(members) > 1 for members in trial.members.values()) else []
        return notes + ([RECOGNISED] if self._several_classes else [])

    def _pictures(self, table: pd.DataFrame, folder: Path) -> list[Picture]:
        _draw_reliability(table, self.config.bins, folder / "reliability.png")
        reliability = Picture(
            "Are the probabilities right?",
            "reliability.png",
            "How often what is given a probability comes true, all answers together; on the dashed "
            "line it comes true as often as it says. Scaled: after the temperature.",
        )
        right, wrong = most_confident(
            table, next(iter(self.models)), _EXAMPLES, several_classes=self._several_classes
        )
        examples = {"wrong": wrong, "right": right}
        return [
            reliability,
            *(
                self._examples(table, rows, which, folder)
                for which, rows in examples.items()
                if not rows.empty
            ),
        ]

    def _examples(
        self, table: pd.DataFrame, rows: pd.DataFrame, which: str, folder: Path
    ) -> Picture:
        file, model = f"confident-{which}.png", next(iter(self.models))
        pairs = list(zip(rows["case_key"].astype(str), rows["answer"], strict=True))
        save_rows(folder / file, [self.middle(key, _told(table, key, name)) for key, name in pairs])
        title = f"Most confident {which} answers of {model}"
        keys = ", ".join(key for key, _ in pairs)
        caption = f"Middle planes of {keys}, with every model's answer. {self.window}"
        return Picture(title, file, caption, shows_patients=True)


def _told(table: pd.DataFrame, case_key: str, answer: str) -> str:
    """Return the truth and the probabilities of one case and answer in words."""
    rows = table[(table["case_key"] == case_key) & (table["answer"] == answer)]
    said = ", ".join(
        f"{model} {probability:.2f}"
        for model, probability in zip(rows["model"], rows["probability"], strict=True)
    )
    truth = "yes" if rows["target"].iloc[0] == 1 else "no"
    return f"{case_key}   {answer}: {truth}   probability: {said}"


def most_confident(
    table: pd.DataFrame, model: str, most: int, *, several_classes: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of a model that are most confidently right and wrong, a row per case.

    Of yes or no, right is on the side of one half where the truth is, and confidence is the
    distance from it. Of several classes the most probable one counts, and its probability.
    """
    rows = table[(table["model"] == model) & table["target"].notna()]
    called, sure = rows["probability"] >= _HALF, (rows["probability"] - _HALF).abs()
    if several_classes:
        rows = rows.loc[rows.groupby("case_key")["probability"].idxmax()]
        called, sure = pd.Series(True, index=rows.index), rows["probability"]
    ranked = rows.assign(right=called == (rows["target"] == 1), sure=sure)
    ranked = ranked.sort_values("sure", ascending=False, kind="stable")
    right, wrong = (
        ranked[chosen].drop_duplicates("case_key").head(most)
        for chosen in (ranked["right"], ~ranked["right"])
    )
    return right, wrong


def predicted_classes(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per case and model: the number of its class, and of the most probable one."""
    keys = ["case_key", "patient_key", "model"]
    wide = table.pivot(index=keys, columns="answer", values=["target", "probability"])
    order = list(dict.fromkeys(table["answer"]))
    target_NC = wide["target"][order].to_numpy(dtype=np.float64)
    known = ~np.isnan(target_NC).any(axis=1)
    numbers = np.where(known, np.nan_to_num(target_NC).argmax(axis=1), np.nan)
    predicted = wide["probability"][order].to_numpy(dtype=np.float64).argmax(axis=1)
    found = wide.index.to_frame(index=False)
    found = found.assign(answer=ALL, target=numbers, predicted=predicted.astype(np.float64))
    order_of = {model: place for place, model in enumerate(dict.fromkeys(table["model"]))}
    return found.sort_values("model", key=lambda names: names.map(order_of), kind="stable")


def _mean_auroc(*columns: Floats) -> float:
    half = len(columns) // 2
    found = [
        auroc(np.where(target_N == _UNKNOWN, np.nan, target_N), scores_N)
        for target_N, scores_N in zip(columns[:half], columns[half:], strict=True)
    ]
    known = [value for value in found if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _draw_reliability(table: pd.DataFrame, bins: int, path: Path) -> None:
    tables = {
        f"{model}{title}": reliability_table(
            rows["target"].to_numpy(), rows[column].to_numpy(), bins=bins
        )
        for model, rows in table.groupby("model", sort=False)
        for column, title in (("probability", ""), ("probability_scaled", ", scaled"))
    }
    save_reliability(path, tables)
