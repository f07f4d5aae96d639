"""Which labelled cases train, choose the best weights, and are held aside."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from medssl.config.base import Config
from medssl.errors import ConfigError
from medssl.labelled.cases import PARTS, LabelledCase, Part
from medssl.labelled.strata import covering_first, dealt, evenly, patterns_of, targets_of


class LabelledSplitConfig(Config):
    """Shares of the patients; every case of a patient goes the same way."""

    test: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share held aside for `medssl evaluate`; training never reads it."""
    val: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share that decides which weights are kept."""
    declared: bool = True
    """Use the parts that the data set itself declares, where it does: `test` and `val` then count
    for nothing, except that `val` is drawn from the training patients of a set without one."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """Train and validate on this one of the folds, counted from 0: those that the data set itself
    declares or, with `folds`, of our own."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Deal the patients that are not held aside into so many folds; fold `fold` validates, the
    others train."""
    train_patients: Annotated[int, Field(gt=0)] | None = None
    """Use only so many of the remaining patients, to see what few labels give."""
    train_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Use only this share of the remaining patients, but one patient at least, and one of every
    class of a table; a smaller share of the same seeds is a part of a larger one."""
    seed: int = 0
    """Another seed draws other patients."""
    train_seed: int | None = None
    """Draws which of the remaining patients are used for training, so that several draws share one
    test set; null: `seed` does."""

    @model_validator(mode="after")
    def _something_remains(self) -> Self:
        if self.test + self.val >= 1:
            raise ValueError(
                f"test ({self.test}) and val ({self.val}) leave nothing to train on; "
                "their sum must be below 1"
            )
        return self

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        if self.train_patients is not None and self.train_fraction is not None:
            raise ValueError("train_patients and train_fraction say the same: give one of them")
        if self.folds is not None and self.fold is None:
            raise ValueError(f"folds is {self.folds}: say with `fold` which of them validates")
        if self.folds is not None and self.fold is not None and self.fold >= self.folds:
            raise ValueError(
                f"fold is {self.fold}, and {self.folds} folds are counted from 0 to "
                f"{self.folds - 1}"
            )
        return self


def split_cases(
    cases: Sequence[LabelledCase],
    config: LabelledSplitConfig,
    *,
    folds: Sequence[Mapping[Part, Sequence[str]]] = (),
) -> dict[str, list[str]]:
    """Return the case keys of ``train``, ``val`` and ``test``, each in the data set's order.

    The same cases and seed always give the same split, whatever the order of ``cases``; with
    ``train_patients`` or ``train_fraction`` the others stay where they are, so runs with fewer
    labels compare. Every part gets its share of the values of a table's first column of targets,
    where these are few enough to be classes; own folds are also evened out by which classes the
    label maps show.

    Args:
        cases: all cases of a set.
        config: the shares, or which of the declared parts or folds to use.
        folds: what the set declares, ``LabelledSet.folds``. With one of them only its patients
            are used, and to test those of the test part that the set declares, if it does.

    Raises:
        ConfigError: There are too few patients for every part to have one, some cases declare a
            part and others do not, or there is no such fold.
    """
    patients = sorted({case.patient_key for case in cases})
    if config.fold is not None and config.folds is None:
        parts = _declared_fold(cases, config, config.fold, folds)
    elif config.declared and any(case.part for case in cases):
        parts = _declared_parts(cases, config)
    else:
        parts = _drawn_parts(cases, patients, config)
    parts["train"] = _fewer(parts["train"], cases, config)
    members = {name: set(keys) for name, keys in parts.items()}
    return {
        name: sorted(case.case_key for case in cases if case.patient_key in members[name])
        for name in PARTS
    }


def _drawn_parts(
    cases: Sequence[LabelledCase], patients: Sequence[str], config: LabelledSplitConfig
) -> dict[str, list[str]]:
    """Return the patients of every part, drawn by shares or as a fold of our own."""
    shuffled = evenly(_shuffled(patients, config.seed), targets_of(cases))
    test = _count(config.test, len(patients))
    if config.folds is not None and config.fold is not None:
        parts = _own_fold(shuffled[test:], cases, config.fold, config.folds)
        return parts | {"test": shuffled[:test]}
    val = _count(config.val, len(patients))
    if test + val >= len(patients):
        raise ConfigError(
            f"{len(patients)} patient(s) are too few: {test} to test, {val} to validate and none "
            "left to train on",
            hint="add labelled patients, or lower splits.test and splits.val",
        )
    return {
        "train": shuffled[test + val :],
        "val": shuffled[test : test + val],
        "test": shuffled[:test],
    }


def _declared_parts(
    cases: Sequence[LabelledCase], config: LabelledSplitConfig
) -> dict[str, list[str]]:
    """Return the patients of the parts that the set declares; validation is drawn if it lacks."""
    counts = Counter(case.part for case in cases)
    if undeclared := counts[None]:
        raise ConfigError(
            f"{len(cases) - undeclared} case(s) declare their part and {undeclared} do not",
            hint="declare the part of every case, or set splits.declared to false",
        )
    declared = {
        name: sorted({case.patient_key for case in cases if case.part == name}) for name in PARTS
    }
    if twice := sum(map(len, declared.values())) - len({case.patient_key for case in cases}):
        raise ConfigError(f"{twice} patient(s) have cases in several declared parts")
    if config.folds is not None and config.fold is not None:
        rest = _shuffled(sorted({*declared["train"], *declared["val"]}), config.seed)
        return _own_fold(rest, cases, config.fold, config.folds) | {"test": declared["test"]}
    shuffled = evenly(_shuffled(declared["train"], config.seed), targets_of(cases))
    val = 0 if declared["val"] else _count(config.val, len(shuffled))
    if len(shuffled) <= val:
        raise ConfigError(
            f"the set declares {len(shuffled)} patient(s) to train on, and {val} must validate",
            hint="declare more cases as train, or set splits.declared to false",
        )
    return {
        "train": shuffled[val:],
        "val": declared["val"] or shuffled[:val],
        "test": declared["test"],
    }


def _own_fold(
    patients: Sequence[str], cases: Sequence[LabelledCase], fold: int, folds: int
) -> dict[str, list[str]]:
    if len(patients) < folds:
        raise ConfigError(
            f"{len(patients)} patient(s) are too few for {folds} folds",
            hint="lower splits.folds or splits.test",
        )
    strata = targets_of(cases) or patterns_of(cases)
    fold_of = dealt(patients, strata, folds)
    return {
        "train": [patient for patient in patients if fold_of[patient] != fold],
        "val": [patient for patient in patients if fold_of[patient] == fold],
    }


def _declared_fold(
    cases: Sequence[LabelledCase],
    config: LabelledSplitConfig,
    fold: int,
    folds: Sequence[Mapping[Part, Sequence[str]]],
) -> dict[str, list[str]]:
    if fold >= len(folds):
        raise ConfigError(
            f"splits.fold is {fold}, and the data set declares {len(folds)} fold(s)",
            hint="set splits.folds to have folds drawn",
        )
    chosen = {name: set(folds[fold].get(name, ())) for name in ("train", "val")}
    chosen["test"] = {case.case_key for case in cases if case.part == "test"}
    parts = {
        name: sorted({case.patient_key for case in cases if case.case_key in keys})
        for name, keys in chosen.items()
    }
    if twice := sum(map(len, parts.values())) - len(set().union(*parts.values())):
        raise ConfigError(f"fold {fold}: {twice} patient(s) have cases in several parts")
    if not parts["train"] or not parts["val"]:
        raise ConfigError(f"fold {fold} of the data set has no cases to train or to validate on")
    train = evenly(_shuffled(parts["train"], config.seed), targets_of(cases))
    return parts | {"train": train}


def _fewer(
    rest: Sequence[str], cases: Sequence[LabelledCase], config: LabelledSplitConfig
) -> list[str]:
    """Return the patients that train, of all that could."""
    values = targets_of(cases)
    if config.train_seed is not None:
        rest = evenly(_shuffled(rest, config.train_seed), values)
    if config.train_fraction is None:
        return list(rest[: config.train_patients])
    order, least = covering_first(rest, values)
    return order[: max(1, least, round(config.train_fraction * len(order)))]


def _shuffled(patients: Sequence[str], seed: int) -> list[str]:
    order = np.random.default_rng(seed).permutation(len(patients))
    return [patients[index] for index in order]


def _count(share: float, patients: int) -> int:
    """Return the patients of a part: at least one of any part that was asked for."""
    return max(1, round(share * patients)) if share > 0 else 0
