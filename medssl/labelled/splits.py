"""Which labelled cases train, choose the best weights, and are held aside."""

from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from medssl.config.base import Config
from medssl.errors import ConfigError
from medssl.labelled.cases import LabelledCase


class LabelledSplitConfig(Config):
    """Shares of the patients; every case of a patient goes the same way."""

    test: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share held aside for `medssl evaluate`; training never reads it."""
    val: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share that decides which weights are kept."""
    train_patients: Annotated[int, Field(gt=0)] | None = None
    """Use only so many of the remaining patients, to see what few labels give."""
    seed: int = 0
    """Another seed draws other patients."""
    train_seed: int | None = None
    """Draws which of the remaining patients are the `train_patients`, so that several draws share
    one test set; null: `seed` does."""

    @model_validator(mode="after")
    def _something_remains(self) -> Self:
        if self.test + self.val >= 1:
            raise ValueError(
                f"test ({self.test}) and val ({self.val}) leave nothing to train on; "
                "their sum must be below 1"
            )
        return self


def split_cases(cases: Sequence[LabelledCase], config: LabelledSplitConfig) -> dict[str, list[str]]:
    """Return the case keys of ``train``, ``val`` and ``test``, each in the data set's order.

    The same cases and seed always give the same split, whatever the order of ``cases``; with
    ``train_patients`` the others stay where they are, so runs with fewer labels compare.

    Raises:
        ConfigError: There are too few patients for every part to have one.
    """
    patients = sorted({case.patient_key for case in cases})
    order = np.random.default_rng(config.seed).permutation(len(patients))
    shuffled = [patients[index] for index in order]
    test = _count(config.test, len(patients))
    val = _count(config.val, len(patients))
    rest = shuffled[test + val :]
    if config.train_seed is not None:
        draw = np.random.default_rng(config.train_seed).permutation(len(rest))
        rest = [rest[index] for index in draw]
    parts = {
        "train": rest[: config.train_patients],
        "val": shuffled[test : test + val],
        "test": shuffled[:test],
    }
    if not rest:
        raise ConfigError(
            f"{len(patients)} patient(s) are too few: {test} to test, {val} to validate and none "
            "left to train on",
            hint="add labelled patients, or lower splits.test and splits.val",
        )
    members = {name: set(keys) for name, keys in parts.items()}
    return {
        name: sorted(case.case_key for case in cases if case.patient_key in keys)
        for name, keys in members.items()
    }


def _count(share: float, patients: int) -> int:
    """Return the patients of a part: at least one of any part that was asked for."""
    return max(1, round(share * patients)) if share > 0 else 0
