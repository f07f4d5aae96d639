"""Segmentations: masks against references, structure by structure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from medssl.evaluation.case_figures import Row, look_at, save_rows, turned
from medssl.evaluation.exam import Exam
from medssl.evaluation.kinds.base import Grouped, Json, Judge, Judgement, Picture, identity
from medssl.evaluation.packed import PackedMasks
from medssl.evaluation.score_figures import save_scores
from medssl.evaluation.segmentation_metrics import dice, score_masks
from medssl.evaluation.summary import Metric, by_case, summarise_means
from medssl.inference.planes import shown_range
from medssl.labelled.cases import LabelledCase
from medssl.runs.progress import track

Bools = NDArray[np.bool_]
NAN: Final = float("nan")
DICE: Final = Metric("dice", "mean Dice", (0.0, 1.0))
SHOWN: Final = (
    DICE,
    Metric("surface_dice", "surface Dice", (0.0, 1.0)),
    Metric("hd95_mm", "HD95, mm", (0.0, np.inf), larger_is_better=False),
    Metric("absolute_volume_error_ml", "volume error, ml", (0.0, np.inf), larger_is_better=False),
)
EMPTY_REFERENCES: Final = (
    "A structure that a case's reference does not hold has no Dice there and no distance: the case "
    "does not count for it, and what was predicted of it all the same is in cases.csv. One that is "
    "missed altogether has Dice 0 and the diagonal of the image as its HD95 (Metrics Reloaded)."
)
TOLERANCE: Final = "Surface Dice is at a tolerance of {:g} mm."


class SegmentationJudge(Judge):
    """Dice, surfaces and volumes of every structure; the masks of telling cases are shown."""

    labelled: ClassVar[bool] = True

    @property
    def headline(self) -> Metric:
        """Return Dice."""
        return DICE

    def judge(self, folder: Path) -> Judgement:
        """Score the masks of every case, and draw the worst, the median and the best."""
        scored, kept = list[pd.DataFrame](), dict[str, dict[str, PackedMasks]]()
        for case in track(self.trial.cases, "evaluate"):
            exam = self.exam(case)
            for model, predictor in self.models.items():
                masks_CIJK = predictor.masks(exam.volume)
                scored.append(self._scored(case, model, exam, masks_CIJK))
                kept.setdefault(case.case_key, {})[model] = PackedMasks.of(masks_CIJK)
        table = pd.concat(scored, ignore_index=True)
        save_scores(folder / "scores.png", table, DICE.column, "Dice")
        return Judgement(
            table=table,
            metrics=summarise_means(table, SHOWN, self.how),
            headline=DICE,
            answer=self.answer,
            shown=SHOWN,
            pictures=[
                Picture("Every case", "scores.png", "Dice of every case that has the structure."),
                *(
                    self._picture(table, name, key, kept[key], folder)
                    for key, name in telling(table).items()
                ),
            ],
            notes=(EMPTY_REFERENCES, TOLERANCE.format(self.config.tolerance_mm)),
        )

    def rows(self, case: LabelledCase, model: str, exam: Exam) -> list[Json]:
        """Return Dice of every structure."""
        reference_CIJK, judged_IJK = self._truth(exam)
        masks_CIJK = self.models[model].masks(exam.volume) & judged_IJK
        known = self._looked_for(case)
        return [
            identity(case, model, name)
            | {DICE.column: dice(predicted, reference & judged_IJK) if known[name] else NAN}
            for name, predicted, reference in zip(
                self.answers, masks_CIJK, reference_CIJK, strict=True
            )
        ]

    def headline_scores(self, table: pd.DataFrame) -> dict[str, Json]:
        """Return the mean Dice over patients."""
        scores = summarise_means(table, [DICE], self.how, differences=False)["scores"][DICE.column]
        return {model: by_answer[self.answer] for model, by_answer in scores.items()}

    def grouped(self, table: pd.DataFrame, model: str) -> Grouped:
        """Return the mean Dice of every case."""
        values = by_case(table, DICE.column)[model, self.answer]
        return Grouped(values.rename(DICE.column).reset_index(), [DICE.column], None)

    def _scored(
        self, case: LabelledCase, model: str, exam: Exam, masks_CIJK: Bools
    ) -> pd.DataFrame:
        reference_CIJK, judged_IJK = self._truth(exam)
        scored = score_masks(
            masks_CIJK & judged_IJK,
            reference_CIJK & judged_IJK,
            self.answers,
            spacing_mm=exam.volume.spacing_mm,
            tolerance_mm=self.config.tolerance_mm,
        ).rename(columns={"class": "answer"})
        unknown = ~scored["answer"].map(self._looked_for(case))
        scored.loc[unknown, [metric.column for metric in SHOWN]] = NAN  # nobody looked for it
        for place, (name, value) in enumerate(identity(case, model, "").items()):
            if name != "answer":
                scored.insert(place, name, value)
        return scored

    def _looked_for(self, case: LabelledCase) -> dict[str, bool]:
        task: Any = self.first.task
        found: dict[str, bool] = task.looked_for(case.annotated)
        return found

    def _truth(self, exam: Exam) -> tuple[Bools, Bools]:
        """Return the reference of every answer, ``(C, I, J, K)``, and which voxels count."""
        task: Any = self.first.task
        label_11IJK = torch.from_numpy(np.asarray(exam.label_IJK, np.int16))[None, None]
        reference, judged = task.reference_masks(label_11IJK)[0], task.judged(label_11IJK)[0, 0]
        return reference.numpy(), judged.numpy()

    def _picture(
        self,
        table: pd.DataFrame,
        name: str,
        case_key: str,
        kept: Mapping[str, PackedMasks],
        folder: Path,
    ) -> Picture:
        """Draw a case: the image alone, then every model's outlines over it."""
        exam = self.exam(self.trial.labelled.case(case_key))
        reference = turned(exam.volume, self._truth(exam)[0])
        predicted = {
            model: turned(exam.volume, packed.unpacked()) for model, packed in kept.items()
        }
        first = next(iter(predicted))
        wrong = np.asarray((reference ^ predicted[first]).any(axis=0))
        anything = np.asarray(np.any([reference, *predicted.values()], axis=(0, 1)))
        seen = look_at(
            exam.volume,
            shown_range(self.first.description.preprocessing, exam.volume.array_IJK),
            marked_RAS=wrong if wrong.any() else anything,
            framed_RAS=anything,
        )
        scores = by_case(table, DICE.column).loc[case_key].iloc[0]
        shown = {model: scores[model, self.answer] for model in predicted}
        rows = [Row(title="image", seen=seen)] + [
            Row(
                title=f"{model}: {_dice_text(shown[model])}",
                seen=seen,
                reference_CRAS=reference,
                predicted_CRAS=masks,
                names=tuple(self.answers),
            )
            for model, masks in predicted.items()
        ]
        file = f"case-{name}.png"
        save_rows(folder / file, rows)
        cut = f"Cut where {first} is wrong most." if wrong.any() else "Cut where most is labelled."
        told = ", ".join(f"{model} {_dice_text(value)}" for model, value in shown.items())
        return Picture(
            f"{name.capitalize()} case: {case_key}", file, f"{told}. {cut} {self.window}", True
        )


def _dice_text(value: float) -> str:
    return "no Dice" if np.isnan(value) else f"Dice {value:.3f}"


def telling(table: pd.DataFrame) -> dict[str, str]:
    """Return the worst, the median and the best case of the first model: key -> which it is."""
    first = table[table["model"] == table["model"].iloc[0]]
    ranked = first.groupby("case_key")["dice"].mean().dropna().sort_values()
    keys = [str(key) for key in ranked.index] or [str(table["case_key"].iloc[0])]
    named = {keys[0]: "worst"}
    named.setdefault(keys[len(keys) // 2], "median")
    named.setdefault(keys[-1], "best")
    return named
