"""The task that a labelled set asks for: which labels, in which units."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medssl.errors import ConfigError
from medssl.labelled.cases import LabelledCase, LabelledSet
from medssl.tasks.base import Task
from medssl.tasks.classification import Classification
from medssl.tasks.regression import Regression
from medssl.tasks.segmentation import Segmentation
from medssl.training.finetune_config import FinetuneConfig


def build_task(config: FinetuneConfig, labelled: LabelledSet, train_keys: Sequence[str]) -> Task:
    """Return the task of a configuration on a data set.

    What the set decides stands in its configuration afterwards, so that a model can be rebuilt
    without the set: regions of classes, the label that nobody meant, the spread of numbers.

    Args:
        config: What is asked for.
        labelled: The set.
        train_keys: Cases that train, which alone decide about spreads.

    Raises:
        ConfigError: The set has not what the task learns from.
    """
    options = config.task
    if isinstance(options, Segmentation.Config):
        if not labelled.labels:
            raise ConfigError(
                f"the data set {labelled.name} has no label maps for segmentation to learn from",
                hint="choose the task classification or regression, or add a column `label`",
            )
        head = "linear" if config.strategy.owner.without_decoder else options.head  # type: ignore[attr-defined]
        found: dict[str, Any] = {"regions": labelled.regions or options.regions, "head": head}
        if labelled.ignore_label is not None:
            found["ignore_label"] = labelled.ignore_label
        return options.model_copy(update=found).build(labels=labelled.labels)  # type: ignore[no-any-return]
    labels = options.labels_of(_values(labelled, options.target_columns))
    train = [labelled.case(key) for key in train_keys]
    if isinstance(options, Classification.Config) and options.one_of_several:
        _check_classes(options.columns[0], labels, labelled, train)
    if isinstance(options, Regression.Config):
        options = _in_units(options, train)
    return options.build(labels=labels)  # type: ignore[no-any-return]


def _values(labelled: LabelledSet, columns: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the distinct values of the columns, "" left out."""
    there = sorted({name for case in labelled.cases for name in case.targets})
    missing = [column for column in columns if column not in there]
    if missing:
        raise ConfigError(
            f"the data set {labelled.name} has no column {', '.join(missing)}",
            hint=f"it has {', '.join(there) or 'none: it is no table'}; set task.columns",
        )
    return {
        column: tuple(sorted({case.targets[column] for case in labelled.cases} - {""}))
        for column in columns
    }


def _check_classes(
    column: str, labels: Sequence[str], labelled: LabelledSet, train: Sequence[LabelledCase]
) -> None:
    """Refuse a column that holds no classes, or training cases of one class alone."""
    cases = len(labelled.cases)
    if 2 * len(labels) > cases:  # such as a column of names, which must get no further
        raise ConfigError(
            f"the column {column} has {len(labels)} different values in {cases} cases, which is "
            "too many for classes",
            hint="choose another column, or the task regression where it holds numbers",
        )
    known = {case.targets[column] for case in train} - {""}
    if len(known) < 2:  # noqa: PLR2004 - a choice needs two
        raise ConfigError(
            f"the training cases are of {len(known)} of the {len(labels)} classes of {column}",
            hint="train on more patients, or split them with another seed",
        )


def _in_units(options: Regression.Config, cases: Sequence[LabelledCase]) -> Regression.Config:
    columns = [
        np.array([float(case.targets[name]) for case in cases if case.targets[name]])
        for name in options.columns
    ]
    for name, values in zip(options.columns, columns, strict=True):
        different = len(set(values.tolist()))
        if different < 2:  # noqa: PLR2004 - a spread needs two
            raise ConfigError(
                f"the training cases have {different} different value(s) of {name}, so there is "
                "nothing to learn",
                hint="train on more patients, or choose another column",
            )
    means = options.means or tuple(float(values.mean()) for values in columns)
    stds = options.stds or tuple(float(values.std()) for values in columns)
    return options.model_copy(update={"means": means, "stds": stds})
