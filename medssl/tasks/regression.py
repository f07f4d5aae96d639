"""Regression: numbers of a whole volume, such as an age or a score."""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from medssl.errors import InputError
from medssl.tasks._whole_volume import MISSING, WholeVolumeTask, mean_where_known
from medssl.tasks.base import Kind, Spec

_LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "huber": F.huber_loss,
}


class Regression(WholeVolumeTask):
    """Each column in units of its spread over the training cases, so that all weigh alike."""

    class Config(WholeVolumeTask.Config):
        error: Literal["l1", "mse", "huber"] = "huber"
        """What is minimised, of numbers in units of their spread; `huber` bends at 1."""
        means: tuple[float, ...] | None = None
        """What is taken off each column; null: its mean over the training cases."""
        stds: tuple[Annotated[float, Field(gt=0)], ...] | None = None
        """What each column is then divided by; null: its standard deviation over them."""

        @model_validator(mode="after")
        def _one_for_each(self) -> Self:
            for name in ("means", "stds"):
                given = getattr(self, name)
                if given is not None and len(given) != len(self.columns):
                    raise ValueError(
                        f"{name} has {len(given)} numbers for {len(self.columns)} columns"
                    )
            return self

        def labels_of(self, values: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
            for column in self.columns:
                strange = [value for value in values[column] if not _is_number(value)]
                if strange:
                    raise InputError(
                        f"the column {column} holds {len(strange)} value(s) that are no numbers",
                        hint="leave a cell empty where the number is not known",
                    )
            return self.columns

    kind: ClassVar[Kind] = "regression"
    monitor: ClassVar[str] = "val/neg_mae"

    def __init__(self, config: Config, labels: tuple[str, ...]) -> None:
        self.config: Regression.Config = config
        self.labels = labels
        self._means_T = torch.tensor(config.means or [0.0] * len(labels))
        self._stds_T = torch.tensor(config.stds or [1.0] * len(labels))

    def target_of(self, values: Mapping[str, str]) -> Tensor:
        """Return the numbers ``(columns,)`` in their own units, NaN where unknown."""
        found = [values.get(name, MISSING) for name in self.labels]
        return torch.tensor([float(v) if v != MISSING else float("nan") for v in found])

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean error of ``(B, columns)`` over what is known, in units of the spread."""
        known_BT = ~target.isnan()
        scaled_BT = (target.nan_to_num() - self._means_T.to(target)) / self._stds_T.to(target)
        each_BT = _LOSSES[self.config.error](output, scaled_BT, reduction="none")
        return mean_where_known(each_BT, known_BT)

    def in_units(self, output_BT: Tensor) -> Tensor:
        """Return what the network returns in the units of the columns."""
        return output_BT * self._stds_T.to(output_BT) + self._means_T.to(output_BT)

    def postprocessing_specs(self) -> list[Spec]:
        return []


def _is_number(value: str) -> bool:
    try:
        return bool(torch.isfinite(torch.tensor(float(value))))
    except ValueError:
        return False
