"""What judging a kind of task needs to know, and what it gives."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

import pandas as pd
from pydantic import Field

from medssl.config.base import Config
from medssl.evaluation.intervals import Resampling
from medssl.evaluation.summary import Metric
from medssl.inference.predictor import Predictor
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


class Trial(NamedTuple):
    """Models, and the cases that they are judged by."""

    labelled: LabelledSet
    predictors: Mapping[str, Predictor]
    cases: Sequence[LabelledCase]
    val: Sequence[LabelledCase]
    """Those that chose the weights: thresholds and temperatures are chosen on them as well."""


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
    """What the table of the page shows, in order."""
    figures: Mapping[str, str]
    """Title -> name of a picture in the folder."""
    notes: Sequence[str]
    """What a reader must know of the numbers."""


def identity(case: LabelledCase, model: str, answer: str) -> Json:
    """Return the columns that name a row."""
    return dict(zip(IDENTITY, (case.case_key, case.patient_key, model, answer), strict=True))


__all__ = ["IDENTITY", "JudgeConfig", "Judgement", "Resampling", "Trial", "identity"]
