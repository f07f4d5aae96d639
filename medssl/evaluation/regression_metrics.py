"""How near measured values come to their references: errors, bias and limits of agreement."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import (
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from medssl.evaluation.classification_metrics import known
from medssl.runs.folder import atomic_path

Floats = NDArray[np.float64]
NAN: Final = float("nan")
LIMITS: Final = 1.96
"""Standard deviations around the bias that hold 95 % of differences, if these are normal."""


def regression_metrics(targets_N: NDArray[Any], predictions_N: Floats) -> dict[str, float]:
    """Return errors in the unit of the target, and the share of variance explained.

    ``bias`` is the mean of prediction less target, and ``limit_low`` and ``limit_high`` are the
    limits of agreement, ``bias -+ 1.96 SD`` (Bland & Altman 1986, Lancet 327:307). They suppose
    one case per patient: repeated cases of a patient make them too narrow. ``r2`` is ``1 - SSE /
    SST`` and below 0 where the mean target would predict better.

    Args:
        targets_N: True values; NaN is not known, and does not count.
        predictions_N: In the same unit.

    Returns:
        ``cases``, ``mae``, ``rmse``, ``r2``, ``bias``, ``limit_low`` and ``limit_high``; NaN
        where there are too few cases: none, or one for ``r2`` and the limits.
    """
    targets, predictions = known(targets_N, predictions_N)
    some, several = len(targets) > 0, len(targets) > 1
    differences = predictions - targets
    bias = float(differences.mean()) if some else NAN
    half = LIMITS * float(differences.std(ddof=1)) if several else NAN
    varied = several and np.ptp(targets) > 0
    return {
        "cases": float(len(targets)),
        "mae": float(mean_absolute_error(targets, predictions)) if some else NAN,
        "rmse": float(root_mean_squared_error(targets, predictions)) if some else NAN,
        "r2": float(r2_score(targets, predictions)) if varied else NAN,
        "bias": bias,
        "limit_low": bias - half,
        "limit_high": bias + half,
    }


def save_agreement(path: Path, targets_N: NDArray[Any], predictions_N: Floats, unit: str) -> None:
    """Write the figure of Bland & Altman: difference over mean, with bias and limits.

    Args:
        path: Of the figure, a PNG.
        targets_N: True values; NaN is not shown.
        predictions_N: In the same unit.
        unit: To write beside the axes, such as ``ml``.
    """
    targets, predictions = known(targets_N, predictions_N)
    found = regression_metrics(targets, predictions)
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot((targets + predictions) / 2, predictions - targets, "o", color="#3f6fa7", alpha=0.6)
    for name, style in (("bias", "-"), ("limit_low", "--"), ("limit_high", "--")):
        if not np.isnan(found[name]):
            axes.axhline(found[name], linestyle=style, color="#d9903f", linewidth=1)
            label = f"{name.replace('_', ' ')} {found[name]:+.3g}"
            beside = axes.get_yaxis_transform()  # x in shares of the panel, y in the unit
            axes.text(1, found[name], label, transform=beside, ha="right", va="bottom", size=8)
    axes.set(xlabel=f"mean of prediction and target [{unit}]")
    axes.set(ylabel=f"prediction less target [{unit}]")
    axes.grid(alpha=0.3)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format="png")
