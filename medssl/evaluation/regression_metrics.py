"""How near measured values come to their references: bias and limits of agreement.

``weighted`` has the errors that an evaluation tells, with intervals.
"""

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medssl.evaluation.classification_metrics import known
from medssl.runs.folder import atomic_path

Floats = NDArray[np.float64]
NAN: Final = float("nan")
LIMITS: Final = 1.96
"""Standard deviations around the bias that hold 95 % of differences, if these are normal."""


class Agreement(NamedTuple):
    """Of prediction less target, in the unit of the target."""

    bias: float
    """The mean; NaN without cases."""
    limit_low: float
    limit_high: float
    """``bias -+ 1.96 SD``; NaN below two cases."""


def agreement(targets_N: NDArray[Any], predictions_N: Floats) -> Agreement:
    """Return bias and limits of agreement (Bland & Altman 1986, Lancet 327:307).

    The limits suppose one case per patient: repeated cases of a patient make them too narrow.

    Args:
        targets_N: True values; NaN is not known, and does not count.
        predictions_N: In the same unit.
    """
    targets, predictions = known(targets_N, predictions_N)
    differences = predictions - targets
    bias = float(differences.mean()) if len(differences) else NAN
    half = LIMITS * float(differences.std(ddof=1)) if len(differences) > 1 else NAN
    return Agreement(bias, bias - half, bias + half)


def save_agreement(path: Path, targets_N: NDArray[Any], predictions_N: Floats, unit: str) -> None:
    """Write the figure of Bland & Altman: difference over mean, with bias and limits.

    Args:
        path: Of the figure, a PNG.
        targets_N: True values; NaN is not shown.
        predictions_N: In the same unit.
        unit: To write beside the axes, such as ``ml``.
    """
    targets, predictions = known(targets_N, predictions_N)
    found = agreement(targets, predictions)._asdict()
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
