"""What judging a kind of task needs to know, and what it gives."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, NamedTuple

import pandas as pd
from pydantic import Field

from medssl.config.base import Config
from medssl.evaluation.case_figures import Row, look_at
from medssl.evaluation.exam import Exam, read_exam
from medssl.evaluation.intervals import Resampling, Statistic
from medssl.evaluation.summary import Metric, primary
from medssl.inference.planes import range_text, shown_range
from medssl.inference.predictor import Ensemble, Predictor
from medssl.labelled.cases import LabelledCase, LabelledSet

Json = dict[str, Any]
IDENTITY: Final = ("case_key", "patient_key", "model", "answer")
Share = Annotated[float, Field(gt=0, lt=1)]


class JudgeConfig(Config):
    """What scores are taken at."""

    tolerance_mm: Annotated[float, Field(ge=0)] = 1.0
    """Segmentation: surfaces that lie no farther apart agree, for surface Dice."""
    specificity: Share = 0.9
    """Classification: at least this specificity, on validation, chooses the threshold at which
    sensitivity is told."""
    sensitivity: Share = 0.9
    """Classification: the same the other way round."""
    bins: Annotated[int, Field(ge=2)] = 10
    """Classification: of the reliability figure and the calibration errors."""


class Held(NamedTuple):
    """A case of validation, and the models of an ensemble that never trained on it."""

    case: LabelledCase
    folds: tuple[int, ...]
    """Numbers of the finetunings that held it aside; one of a single finetuning."""


class Trial(NamedTuple):
    """Models, and the cases that they are judged by."""

    labelled: LabelledSet
    members: Mapping[str, Sequence[Predictor]]
    """Of each model the predictors that answer together: one, or one per finetuning."""
    cases: Sequence[LabelledCase]
    val: Sequence[Held]
    """Those that chose the weights: thresholds and temperatures are chosen on them as well."""

    def predictor(self, model: str, folds: Sequence[int] | None = None) -> Predictor:
        """Return what answers for a model; with ``folds`` only these of its finetunings."""
        members = self.members[model]
        chosen = [members[fold] for fold in folds] if folds is not None else list(members)
        return chosen[0] if len(chosen) == 1 else Ensemble(chosen)


class Picture(NamedTuple):
    """A figure of the page."""

    title: str
    file: str
    """Its name in the folder."""
    caption: str
    shows_patients: bool = False
    """Whether scans are seen in it: it then stays in the folder."""


class Judgement(NamedTuple):
    """What is known of a trial."""

    table: pd.DataFrame
    """A row per case, model and answer; see ``IDENTITY``."""
    metrics: Json
    """``scores[column][model][answer]``, ``differences[column][answer]``, and what is special."""
    headline: Metric
    """What the verdict is about."""
    answer: str
    """And of which answer."""
    shown: Sequence[Metric]
    """What the tables of the page show, in order."""
    pictures: Sequence[Picture]
    """In order; the examples last."""
    notes: Sequence[str]
    """What a reader must know of the numbers."""


class Grouped(NamedTuple):
    """The headline of one model as a statistic of cases, for groups of them."""

    cases: pd.DataFrame
    """A row per case: ``case_key``, ``patient_key`` and the columns."""
    columns: Sequence[str]
    statistic: Statistic | None
    """None: the mean over patients of the single column."""


class Judge(ABC):
    """How one kind of task is judged."""

    labelled: ClassVar[bool] = False
    """Whether a case has a label map to be compared with."""

    def __init__(self, trial: Trial, config: JudgeConfig, how: Resampling) -> None:
        """Look at nothing yet.

        Args:
            trial: Models and cases.
            config: What scores are taken at.
            how: How intervals and p-values are made.
        """
        self.trial, self.config, self.how = trial, config, how
        self.models = {model: trial.predictor(model) for model in trial.members}
        self.first = next(iter(self.models.values()))

    @property
    @abstractmethod
    def headline(self) -> Metric:
        """What the verdict is about."""

    @property
    def answers(self) -> list[str]:
        """Names of what is judged."""
        return list(self.first.task.answers)

    @property
    def answer(self) -> str:
        """Which answer the headline is about."""
        return primary(self.answers)

    def exam(self, case: LabelledCase) -> Exam:
        """Return what a case shows."""
        return read_exam(case, self.trial.labelled.modality, labelled=self.labelled)

    @property
    def window(self) -> str:
        """What is black and white in pictures of scans."""
        about = self.first.description
        return range_text(about.preprocessing, about.modality)

    def middle(self, case_key: str, title: str) -> Row:
        """Return the middle planes of a case, to be drawn under a title."""
        volume = self.exam(self.trial.labelled.case(case_key)).volume
        limits = shown_range(self.first.description.preprocessing, volume.array_IJK)
        return Row(title=title, seen=look_at(volume, limits))

    @abstractmethod
    def judge(self, folder: Path) -> Judgement:
        """Score every case with every model, and draw what there is to see into ``folder``."""

    @abstractmethod
    def rows(self, case: LabelledCase, model: str, exam: Exam) -> list[Json]:
        """Return a model's answers about a case as it is shown in ``exam``.

        They hold ``IDENTITY`` and what the headline is made of, nothing else.
        """

    @abstractmethod
    def headline_scores(self, table: pd.DataFrame) -> dict[str, Json]:
        """Return the headline of each model with its interval, of a table of ``rows``."""

    @abstractmethod
    def grouped(self, table: pd.DataFrame, model: str) -> Grouped:
        """Return what the headline of a model is in groups of cases."""


def identity(case: LabelledCase, model: str, answer: str) -> Json:
    """Return the columns that name a row."""
    return dict(zip(IDENTITY, (case.case_key, case.patient_key, model, answer), strict=True))
