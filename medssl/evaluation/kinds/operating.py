"""What validation cases decide about a classifier: thresholds, and one temperature."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from medssl.errors import InputError
from medssl.evaluation.calibration import (
    fit_temperature_of_classes,
    fit_temperature_of_events,
    probabilities_of_classes,
    probabilities_of_events,
)
from medssl.evaluation.classification_metrics import Thresholds, choose_thresholds
from medssl.evaluation.kinds.base import Json, JudgeConfig, identity
from medssl.inference.predictor import Predictor
from medssl.labelled.cases import LabelledCase
from medssl.tasks.base import Task
from medssl.tasks.classification import Classification
from medssl.training.scoring import findings

Floats = NDArray[np.float64]
AT_SPECIFICITY: Final = "called_at_specificity"
AT_SENSITIVITY: Final = "called_at_sensitivity"
BEST_F1: Final = "called"
_CALLED: Final[Mapping[str, str]] = {
    AT_SPECIFICITY: "at_specificity",
    AT_SENSITIVITY: "at_sensitivity",
    BEST_F1: "best_f1",
}
"""Columns of decisions, 0 or 1, and the thresholds they are made at."""


class Outputs(NamedTuple):
    """What one model says of some cases."""

    task: Classification
    cases: Sequence[LabelledCase]
    logits_NC: Floats
    truth_NC: Floats
    """0, 1, NaN where unknown."""

    @classmethod
    def of(
        cls, predictor: Predictor, cases: Sequence[LabelledCase], logits: Sequence[Floats]
    ) -> Self:
        """Return outputs beside what is true."""
        task: Any = predictor.task
        if not cases:
            none_NC = np.zeros((0, len(task.labels)))
            return cls(task, cases, none_NC, none_NC)
        target = torch.stack([task.target_of(case.targets) for case in cases])
        return cls(task, cases, np.stack(logits), findings(task, target).numpy())

    def probabilities(self, temperature: float) -> Floats:
        """Return ``(N, C)``, after a temperature."""
        if self.task.config.one_of_several:
            return probabilities_of_classes(self.logits_NC, temperature)
        return probabilities_of_events(self.logits_NC, temperature)

    def temperature(self) -> float:
        """Return the one that suits these cases; 1 where nothing is known of any."""
        if np.isnan(self.truth_NC).all():
            return 1.0
        if not self.task.config.one_of_several:
            return fit_temperature_of_events(self.truth_NC, self.logits_NC)
        known_N = ~np.isnan(self.truth_NC).any(axis=1)
        numbers = self.truth_NC[known_N].argmax(axis=1)
        return fit_temperature_of_classes(numbers, self.logits_NC[known_N])


class Chosen(NamedTuple):
    """What validation cases decided about a model."""

    temperature: float
    thresholds: Mapping[str, Thresholds | None]
    """By answer; None where the validation had cases of one kind alone."""

    def told(self) -> Json:
        """Return it for JSON, where a threshold that no score reaches, infinity, is null."""
        cuts = {name: asdict(cut) if cut else None for name, cut in self.thresholds.items()}
        return {"temperature": self.temperature, "thresholds": cuts}

    def table(self, outputs: Outputs, model: str) -> pd.DataFrame:
        """Return a row per case and answer: target, probabilities and decisions."""
        plain_NC, scaled_NC = outputs.probabilities(1.0), outputs.probabilities(self.temperature)
        return pd.DataFrame(
            [
                {
                    **identity(case, model, name),
                    "target": outputs.truth_NC[n, column],
                    "logit": outputs.logits_NC[n, column],
                    "probability": plain_NC[n, column],
                    "probability_scaled": scaled_NC[n, column],
                    **self._called(name, plain_NC[n, column]),
                }
                for n, case in enumerate(outputs.cases)
                for column, name in names_of(outputs.task)
            ]
        )

    def _called(self, name: str, probability: float) -> dict[str, float]:
        cuts = self.thresholds[name]
        return {
            column: float(probability >= getattr(cuts, cut)) if cuts else float("nan")
            for column, cut in _CALLED.items()
        }


def choose(val: Outputs, config: JudgeConfig) -> Chosen:
    """Return thresholds of every answer and the temperature that suit validation cases."""
    scores_NC, thresholds = val.probabilities(1.0), dict[str, Thresholds | None]()
    wanted = {"specificity": config.specificity, "sensitivity": config.sensitivity}
    for column, name in names_of(val.task):
        try:
            cut = choose_thresholds(val.truth_NC[:, column], scores_NC[:, column], **wanted)
        except InputError:  # cases of one kind alone
            thresholds[name] = None
        else:
            thresholds[name] = cut
    return Chosen(val.temperature(), thresholds)


def names_of(task: Task) -> list[tuple[int, str]]:
    """Return channels and names of what is judged: of two classes the second one alone.

    Values of a single column are named with it, ``grade = 2``.
    """
    options: Any = task.config
    if not options.one_of_several:
        return list(enumerate(task.labels))
    names = [(n, f"{options.columns[0]} = {label}") for n, label in enumerate(task.labels)]
    return names[1:] if len(names) == 2 else names  # noqa: PLR2004 - the first says the same
