"""How well probabilities tell classes apart: the area under the curve, and operating points.

``weighted`` has what an evaluation tells of them, with intervals.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import precision_recall_curve, roc_curve

from medssl.errors import InputError

Floats = NDArray[np.float64]
NAN: Final = float("nan")
_ROUNDING: Final = 1e-12
"""Of shares such as 1 - 0.9, which no float holds."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """From which probability on a case counts as positive; chosen on cases of the validation."""

    at_specificity: float
    """The lowest with at least the specificity that was asked for."""
    at_sensitivity: float
    """The highest with at least the sensitivity that was asked for."""
    best_f1: float
    """The one of the highest F1: the decision, wherever one number is to be told."""


def choose_thresholds(
    targets_N: NDArray[Any],
    scores_N: Floats,
    *,
    specificity: float = 0.9,
    sensitivity: float = 0.9,
) -> Thresholds:
    """Return thresholds chosen on these cases, which are to be those of the validation.

    Thresholds chosen on the cases that are then measured would flatter the model. A threshold is
    a score that occurs, and cases of that score or a higher one are positive. NaN targets do not
    count.

    Args:
        targets_N: 0 or 1, NaN where not known.
        scores_N: Higher where a case is rather positive.
        specificity: At least this share of the negative cases stays negative.
        sensitivity: At least this share of the positive cases is found.

    Raises:
        InputError: There are no positive or no negative cases.
    """
    targets, scores = known(targets_N, scores_N)
    if not ((targets == 1).any() and (targets == 0).any()):
        raise InputError(
            f"thresholds cannot be chosen on {int(np.sum(targets == 1))} positive and "
            f"{int(np.sum(targets == 0))} negative cases",
            hint="the validation needs cases of both kinds",
        )
    share_fp, share_tp, cuts = roc_curve(targets, scores, drop_intermediate=False)
    is_specific = 1 - share_fp >= specificity - _ROUNDING
    is_sensitive = share_tp >= sensitivity - _ROUNDING
    precision, recall, cuts_pr = precision_recall_curve(targets, scores)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return Thresholds(
        at_specificity=float(cuts[is_specific].min()),
        at_sensitivity=float(cuts[is_sensitive].max()),
        best_f1=float(cuts_pr[np.argmax(f1[:-1])]),
    )


def auroc(targets_N: NDArray[Any], scores_N: Floats) -> float:
    """Return the area under the ROC curve, NaN for one class alone; NaN targets do not count.

    It is the share of pairs of a positive and a negative case that are in order, ties by half
    (Hanley & McNeil 1982, Radiology 143:29), from ranks: the bootstrap asks for it often.
    """
    targets, scores = known(targets_N, scores_N)
    positive = targets == 1
    count, others = int(positive.sum()), int((~positive).sum())
    if not count or not others:
        return NAN
    ranks = float(rankdata(scores)[positive].sum())
    return (ranks - count * (count + 1) / 2) / (count * others)


def known(targets_N: NDArray[Any], scores_N: Floats) -> tuple[Floats, Floats]:
    """Return targets and scores of the cases whose target is known."""
    targets = np.asarray(targets_N, dtype=np.float64)
    kept = ~np.isnan(targets)
    return targets[kept], np.asarray(scores_N, dtype=np.float64)[kept]
