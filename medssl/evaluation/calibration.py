"""Whether probabilities can be believed: reliability, its errors, and temperature scaling."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax

from medssl.errors import InputError
from medssl.evaluation.classification_metrics import known
from medssl.runs.folder import atomic_path

Floats = NDArray[np.float64]
NAN: Final = float("nan")
TEMPERATURES: Final = (0.01, 100.0)
"""Between these one is looked for; perfectly separated cases would ask for 0."""


class CalibrationErrors(NamedTuple):
    """How far frequencies are from probabilities, over the bins of a reliability table."""

    expected: float
    """Mean gap of bins, weighted by their cases."""
    maximum: float
    """Largest gap of any bin; few cases in a bin make it large by chance."""


def reliability_table(
    targets_N: NDArray[Any], probabilities_N: Floats, *, bins: int
) -> pd.DataFrame:
    """Return, per bin of probability, how often the event came true.

    Bins are of equal width from 0 to 1 (Guo et al. 2017, ICML, section 2). A bin holds its upper
    end, and the first one also its lower end. Empty bins have no row.

    Args:
        targets_N: 0 or 1; NaN does not count.
        probabilities_N: Of being 1.
        bins: How many at most.

    Returns:
        ``low``, ``high``, ``cases``, ``probability`` (mean), ``frequency`` and ``gap`` (frequency
        less probability: below 0 where the model is too sure).
    """
    targets, probabilities = known(targets_N, probabilities_N)
    ends = np.linspace(0, 1, bins + 1)[1:]
    bin_of_N = np.searchsorted(ends, probabilities, side="left")
    starts = np.append(0.0, ends[:-1])
    rows = [
        {
            "low": float(starts[number]),
            "high": float(ends[number]),
            "cases": int(inside.sum()),
            "probability": float(probabilities[inside].mean()),
            "frequency": float(targets[inside].mean()),
        }
        for number in np.unique(bin_of_N)
        if (inside := bin_of_N == number).any()
    ]
    table = pd.DataFrame(rows, columns=["low", "high", "cases", "probability", "frequency"])
    return table.assign(gap=table["frequency"] - table["probability"])


def calibration_errors(table: pd.DataFrame) -> CalibrationErrors:
    """Return expected and maximum calibration error (Naeini et al. 2015, AAAI); NaN without cases.

    Args:
        table: Of ``reliability_table``. The errors are those of its bins, whose number is to be
            told with them: errors grow with it.
    """
    if table.empty:
        return CalibrationErrors(NAN, NAN)
    gaps = table["gap"].abs().to_numpy()
    return CalibrationErrors(
        expected=float(np.average(gaps, weights=table["cases"].to_numpy())),
        maximum=float(gaps.max()),
    )


def save_reliability(path: Path, tables: dict[str, pd.DataFrame]) -> None:
    """Write a figure with a panel per table: frequency over probability, and cases per bin.

    Args:
        path: Of the figure, a PNG.
        tables: Of ``reliability_table``, by the name to show; at least one.
    """
    figure = Figure(figsize=(3.4 * len(tables), 4.2), layout="constrained")
    panels = figure.subplots(2, len(tables), squeeze=False, sharex=True, height_ratios=(3, 1))
    for (above, below), (name, table) in zip(panels.T, tables.items(), strict=True):
        errors = calibration_errors(table)
        above.plot([0, 1], [0, 1], "--", color="#9aa3af", linewidth=1)
        above.plot(table["probability"], table["frequency"], "o-", color="#3f6fa7", markersize=4)
        above.set_title(f"{name}\nexpected calibration error {errors.expected:.3f}", fontsize=9)
        above.set(xlim=(0, 1), ylim=(0, 1))
        widths = table["high"] - table["low"]
        below.bar(table["low"], table["cases"], widths, align="edge", color="#d8dde5", ec="white")
        below.set(xlabel="probability")
    panels[0, 0].set_ylabel("frequency")
    panels[1, 0].set_ylabel("cases")
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format="png")


def fit_temperature_of_classes(targets_N: NDArray[np.integer[Any]], logits_NC: Floats) -> float:
    """Return the temperature of cases that are of one class each, to be fitted on the validation.

    It minimises the mean negative log-likelihood of ``softmax(logits / T)`` (Guo et al. 2017,
    equation 9), which is convex in 1 / T and so has one minimum; it is looked for between 0.01
    and 100. A temperature changes no ranking within a case: accuracy stays.

    Args:
        targets_N: Numbers of classes.
        logits_NC: Before the softmax.

    Raises:
        InputError: There are no cases.
    """
    rows = np.arange(len(targets_N))
    return _minimise(
        lambda inverse: -np.mean(log_softmax(inverse * logits_NC, axis=1)[rows, targets_N]),
        len(targets_N),
    )


def fit_temperature_of_events(targets: NDArray[Any], logits: Floats) -> float:
    """Return the temperature of yes-or-no targets, one (N,) or several a case (N, C).

    As ``fit_temperature_of_classes``, with ``sigmoid(logits / T)``; all findings share one
    temperature. NaN targets do not count.

    Args:
        targets: 0 or 1, NaN where not known.
        logits: Before the sigmoid, as many as targets.

    Raises:
        InputError: There are no known targets.
    """
    known_targets, known_logits = known(targets, logits)
    signed = (2 * known_targets - 1) * known_logits
    return _minimise(lambda inverse: np.mean(np.logaddexp(0, -inverse * signed)), len(signed))


def probabilities_of_classes(logits_NC: Floats, temperature: float) -> Floats:
    """Return ``softmax(logits / T)``, (N, C)."""
    return np.asarray(softmax(logits_NC / temperature, axis=1), dtype=np.float64)


def probabilities_of_events(logits: Floats, temperature: float) -> Floats:
    """Return ``sigmoid(logits / T)``, as many as logits."""
    return np.asarray(expit(logits / temperature), dtype=np.float64)


def _minimise(loss: Callable[[float], Any], cases: int) -> float:
    """Return the temperature at which ``loss`` of its inverse is least."""
    if not cases:
        raise InputError(
            "a temperature cannot be fitted without cases",
            hint="calibration needs labelled cases held aside for the validation",
        )
    found = minimize_scalar(
        lambda log_t: float(loss(float(np.exp(-log_t)))),
        bounds=np.log(TEMPERATURES).tolist(),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))
