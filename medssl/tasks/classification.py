"""Classification of a whole volume: one class of several, or several findings at once."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.errors import InputError
from medssl.models.classifier import Classifier
from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder
from medssl.tasks._core_tuning import CoreTuning, CoreTuningConfig
from medssl.tasks._objective import Objective
from medssl.tasks._whole_volume import MISSING, WholeVolumeTask, mean_where_known
from medssl.tasks.base import Kind, Spec

UNKNOWN = -1
"""Stands for a class that is not known, which costs nothing."""
_FINDINGS = {"0": 0.0, "1": 1.0}


class Classification(WholeVolumeTask):
    """One column: cross-entropy over its values. Several: each is 0 or 1, on its own."""

    class Config(WholeVolumeTask.Config):
        label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
        """Share of every target that is spread over all classes."""
        balanced: bool = True
        """Draw the classes equally often in training, however rare one is; for one column."""
        core_tuning: CoreTuningConfig | None = None
        """Also hold features of one class together; null: plain cross-entropy. For one column."""

        @model_validator(mode="after")
        def _contrast_of_one_column(self) -> Self:
            if self.core_tuning is not None and not self.one_of_several:
                raise ValueError(
                    "core_tuning contrasts classes that exclude each other: give one column"
                )
            return self

        @property
        def one_of_several(self) -> bool:
            """Whether classes exclude each other."""
            return len(self.columns) == 1

        def labels_of(self, values: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
            if self.one_of_several:
                (column,) = self.columns
                if len(values[column]) < 2:  # noqa: PLR2004 - a choice needs two
                    raise InputError(
                        f"the column {column} has {len(values[column])} different value(s), and "
                        "there is nothing to tell apart",
                        hint="give a column with two classes or more",
                    )
                return values[column]
            for column in self.columns:
                strange = [value for value in values[column] if value not in _FINDINGS]
                if strange:
                    raise InputError(
                        f"the column {column} holds {len(strange)} value(s) beside 0 and 1, but of "
                        "several columns each must hold these",
                        hint="leave a cell empty where it is not known",
                    )
            return self.columns

    kind: ClassVar[Kind] = "classification"
    monitor: ClassVar[str] = "val/auroc"

    def __init__(self, config: Config, labels: tuple[str, ...]) -> None:
        self.config: Classification.Config = config
        self.labels = labels

    @property
    def draws_classes_equally(self) -> bool:
        """Whether training takes the classes in turn."""
        return self.config.balanced and self.config.one_of_several

    def target_of(self, values: Mapping[str, str]) -> Tensor:
        """Return the class number ``()``, int64, or findings ``(labels,)``, NaN where unknown."""
        if self.config.one_of_several:
            value = values.get(self.config.columns[0], MISSING)
            return torch.tensor(UNKNOWN if value == MISSING else self.labels.index(value))
        found = [_FINDINGS.get(values.get(name, MISSING), float("nan")) for name in self.labels]
        return torch.tensor(found)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return cross-entropy of logits ``(B, classes)``; what is not known costs nothing.

        Several columns: mean of ``-t log s(x) - (1 - t) log(1 - s(x))`` over what is known.
        """
        smoothing = self.config.label_smoothing
        if self.config.one_of_several:
            known_B = target != UNKNOWN
            each_B = F.cross_entropy(
                output, target.clamp(min=0), reduction="none", label_smoothing=smoothing
            )
            return mean_where_known(each_B, known_B)
        known_BC = ~target.isnan()
        smooth_BC = target.nan_to_num() * (1 - smoothing) + smoothing / 2
        each_BC = F.binary_cross_entropy_with_logits(output, smooth_BC, reduction="none")
        return mean_where_known(each_BC, known_BC)

    def probabilities(self, logits_BC: Tensor) -> Tensor:
        """Return the probability of every class or finding, ``(B, classes)``."""
        return logits_BC.softmax(1) if self.config.one_of_several else logits_BC.sigmoid()

    def objective(
        self, network: nn.Module, encoder: Encoder, decoder: Decoder | None = None
    ) -> Objective:
        config = self.config.core_tuning
        if config is None:
            return super().objective(network, encoder, decoder)
        return CoreTuning(self, cast(Classifier, network), config)

    def postprocessing_specs(self) -> list[Spec]:
        activation = "softmax" if self.config.one_of_several else "sigmoid"
        return [{"_target_": "Activationsd", "keys": "pred", activation: True}]
