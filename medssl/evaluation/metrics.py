"""Dice of masks, and means of patients with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from monai.metrics import DiceMetric
from monai.networks.utils import one_hot
from numpy.typing import NDArray
from scipy.stats import bootstrap


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over patients and its bootstrap interval; NaN where nothing could be measured."""

    mean: float
    low: float
    high: float
    patients: int
    """How many patients the mean is over."""

    def includes(self, value: float) -> bool:
        """Return whether the data are compatible with ``value``; also when there is no interval."""
        return not (self.low > value or self.high < value)


def dice_per_class(
    predicted_IJK: NDArray[Any], reference_IJK: NDArray[Any], classes: int
) -> NDArray[np.float64]:
    """Return Dice, ``2 |P and R| / (|P| + |R|)``, of every class but the background.

    A class that the reference does not hold has no Dice and gives NaN, whatever was predicted:
    0 and 1 would both say more than one empty case can. What was predicted there is counted in
    the table of cases instead.

    Args:
        predicted_IJK: Class numbers.
        reference_IJK: Class numbers on the same grid.
        classes: How many, with the background.
    """
    metric = DiceMetric(include_background=False, reduction="none", ignore_empty=True)
    pair = [
        one_hot(torch.from_numpy(mask.astype(np.int64))[None, None], classes, dtype=torch.float64)
        for mask in (predicted_IJK, reference_IJK)
    ]
    dice_1C = cast(torch.Tensor, metric(y_pred=pair[0], y=pair[1]))
    return np.asarray(dice_1C[0].numpy(), dtype=np.float64)


def mean_over_patients(
    values: Sequence[float],
    patient_keys: Sequence[str],
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Return the mean over patients and its percentile bootstrap interval.

    A patient counts once: several cases of one patient are averaged first, and patients, not
    cases, are drawn with replacement (Efron & Tibshirani 1993, chapter 13). NaN values do not
    count. One patient alone has a mean but no interval.
    """
    by_patient = dict[str, list[float]]()
    for key, value in zip(patient_keys, values, strict=True):
        if not np.isnan(value):
            by_patient.setdefault(key, []).append(value)
    means = np.array([np.mean(by_patient[key]) for key in sorted(by_patient)])
    count = len(means)
    if count < 2:  # noqa: PLR2004 - nothing to resample
        mean = float(means[0]) if count else float("nan")
        return Estimate(mean=mean, low=float("nan"), high=float("nan"), patients=count)
    interval = bootstrap(
        (means,),
        np.mean,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(
        mean=float(means.mean()),
        low=float(interval.low),
        high=float(interval.high),
        patients=count,
    )
