"""How good the shares are that a probe gives to classes or columns."""

from collections.abc import Iterator

import numpy as np

from medssl.evaluation.classification_metrics import auroc
from medssl.evaluation.frozen.results import OfAnswers, PerCase, Result
from medssl.evaluation.frozen.targets import Targets
from medssl.evaluation.intervals import NAN, Floats


def answers(
    shares_MC: Floats, targets: Targets, patients: tuple[str, ...]
) -> Iterator[tuple[str, Result]]:
    """Yield the scores of what a probe answered.

    Of one column of classes ``accuracy``, ``balanced_accuracy`` and ``auroc``, of several columns
    ``auroc`` alone: what share is a yes is not chosen here.

    Args:
        shares_MC: Of each class or column; NaN where there is no answer, which does not count.
        targets: Of the same rows.
        patients: Whose each row is.
    """
    given_M = ~np.isnan(shares_MC).any(axis=1)
    if targets.exclusive:
        right_M = (shares_MC.argmax(axis=1) == targets.labels()).astype(np.float64)
        yield "accuracy", PerCase(np.where(given_M, right_M, NAN), patients)
        yield "balanced_accuracy", OfAnswers(mean_recall, targets.y_NC, shares_MC, patients)
    yield "auroc", OfAnswers(mean_auroc, targets.y_NC, shares_MC, patients)


def mean_recall(y_MC: Floats, shares_MC: Floats) -> float:
    """Return the share of rows labelled rightly, of each class that occurs, averaged over them."""
    given_M = ~np.isnan(shares_MC).any(axis=1)
    y_MC, guess_M = y_MC[given_M], shares_MC[given_M].argmax(axis=1)
    right_C, rows_C = y_MC[np.arange(len(y_MC)), guess_M] @ y_MC, y_MC.sum(axis=0)
    return float(np.mean(right_C[rows_C > 0] / rows_C[rows_C > 0])) if rows_C.any() else NAN


def mean_auroc(y_MC: Floats, shares_MC: Floats) -> float:
    """Return the area under the ROC curve of each class against all others, or of each column.

    Averaged over those in which there are rows of both kinds; NaN where there are none.
    """
    found = np.array(
        [
            auroc(np.where(np.isnan(shares_M), NAN, y_M), shares_M)
            for y_M, shares_M in zip(y_MC.T, shares_MC.T, strict=True)
        ]
    )
    return float(np.nanmean(found)) if not np.isnan(found).all() else NAN
