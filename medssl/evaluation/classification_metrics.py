"""How well probabilities tell classes apart: areas, operating points, errors of probability."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_recall_curve,
    roc_curve,
)

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
    if not has_both(targets):
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


def auprc(targets_N: NDArray[Any], scores_N: Floats) -> float:
    """Return average precision, NaN without positive cases; NaN targets do not count.

    The step-wise area under the curve of precision and recall, not the trapezoidal one, which is
    too high (Davis & Goadrich 2006, ICML). At chance it is the share of positive cases.
    """
    targets, scores = known(targets_N, scores_N)
    return float(average_precision_score(targets, scores)) if (targets == 1).any() else NAN


def sensitivity_at(targets_N: NDArray[Any], scores_N: Floats, threshold: float) -> float:
    """Return the share of positive cases that score ``threshold`` or more; NaN without any."""
    targets, scores = known(targets_N, scores_N)
    return float(np.mean(scores[targets == 1] >= threshold)) if (targets == 1).any() else NAN


def specificity_at(targets_N: NDArray[Any], scores_N: Floats, threshold: float) -> float:
    """Return the share of negative cases that score less than ``threshold``; NaN without any."""
    targets, scores = known(targets_N, scores_N)
    return float(np.mean(scores[targets == 0] < threshold)) if (targets == 0).any() else NAN


def binary_metrics(
    targets_N: NDArray[Any], probabilities_N: Floats, thresholds: Thresholds | None = None
) -> dict[str, float]:
    """Return what tells how well a probability separates positive from negative cases.

    Args:
        targets_N: 0 or 1; NaN is not known, and does not count.
        probabilities_N: Of being positive.
        thresholds: Of ``choose_thresholds`` on the validation. Without them there are no
            ``sensitivity_at_specificity``, ``specificity_at_sensitivity``, ``f1``, ``accuracy``
            and ``balanced_accuracy``; the last three decide at ``best_f1``.

    Returns:
        ``cases``, ``positive``, ``auroc``, ``auprc``, ``brier``, ``log_loss`` and the above; NaN
        where the cases do not define them.
    """
    targets, scores = known(targets_N, probabilities_N)
    found = {
        "cases": float(len(targets)),
        "positive": float(np.sum(targets == 1)),
        "auroc": auroc(targets, scores),
        "auprc": auprc(targets, scores),
        "brier": float(np.mean((scores - targets) ** 2)) if len(targets) else NAN,
        "log_loss": float(log_loss(targets, scores, labels=[0, 1])) if len(targets) else NAN,
    }
    return found if thresholds is None else found | _decided(targets, scores, thresholds)


def _decided(targets: Floats, scores: Floats, thresholds: Thresholds) -> dict[str, float]:
    cut, both = thresholds.best_f1, has_both(targets)
    sensitivity, specificity = (of(targets, scores, cut) for of in (sensitivity_at, specificity_at))
    return {
        "sensitivity_at_specificity": sensitivity_at(targets, scores, thresholds.at_specificity),
        "specificity_at_sensitivity": specificity_at(targets, scores, thresholds.at_sensitivity),
        "f1": float(f1_score(targets, scores >= cut)) if (targets == 1).any() else NAN,
        "accuracy": float(accuracy_score(targets, scores >= cut)) if len(targets) else NAN,
        "balanced_accuracy": (sensitivity + specificity) / 2 if both else NAN,
    }


def multilabel_metrics(
    targets_NC: Floats,
    probabilities_NC: Floats,
    names: Sequence[str],
    thresholds: Mapping[str, Thresholds] | None = None,
) -> dict[str, dict[str, float]]:
    """Return ``binary_metrics`` of each finding, and as ``macro`` their mean.

    Args:
        targets_NC: 0 or 1; NaN where a case was not judged for a finding.
        probabilities_NC: Of each finding; they need not add up to 1.
        names: (C,) of the findings.
        thresholds: By name; of ``choose_thresholds`` on the validation.
    """
    found = {
        name: binary_metrics(
            targets_NC[:, c], probabilities_NC[:, c], thresholds[name] if thresholds else None
        )
        for c, name in enumerate(names)
    }
    return found | {"macro": _macro(list(found.values()))}


def multiclass_metrics(
    targets_N: NDArray[np.integer[Any]],
    probabilities_NC: Floats,
    names: Sequence[str],
    thresholds: Mapping[str, Thresholds] | None = None,
) -> dict[str, dict[str, float]]:
    """Return metrics of cases that are of one class each.

    Each class has ``binary_metrics`` of it against all others. ``macro`` is their mean over
    classes in which they are defined. ``overall`` is of the most probable class: ``accuracy``,
    ``balanced_accuracy`` (over classes that occur), ``macro_f1``, and ``log_loss`` and ``brier``
    of all probabilities at once, the latter as Brier 1950 has it: squares summed over classes,
    from 0 to 2.

    Args:
        targets_N: Numbers of classes.
        probabilities_NC: Of each class; they add up to 1.
        names: (C,) of the classes.
        thresholds: By name; of ``choose_thresholds`` on the validation, one class against all.
    """
    one_hot_NC = np.eye(len(names))[targets_N]
    found = multilabel_metrics(one_hot_NC, probabilities_NC, names, thresholds)
    chosen, classes = probabilities_NC.argmax(axis=1), np.arange(len(names))
    present = np.unique(targets_N)
    overall = {
        "cases": float(len(targets_N)),
        "accuracy": float(accuracy_score(targets_N, chosen)),
        "balanced_accuracy": float(
            np.mean([np.mean(chosen[targets_N == c] == c) for c in present])
        ),
        "macro_f1": float(f1_score(targets_N, chosen, labels=present, average="macro")),
        "brier": float(
            brier_score_loss(targets_N, probabilities_NC, labels=classes, scale_by_half=False)
        ),
        "log_loss": float(log_loss(targets_N, probabilities_NC, labels=classes)),
    }
    return found | {"overall": overall}


def known(targets_N: NDArray[Any], scores_N: Floats) -> tuple[Floats, Floats]:
    """Return targets and scores of the cases whose target is known."""
    targets = np.asarray(targets_N, dtype=np.float64)
    kept = ~np.isnan(targets)
    return targets[kept], np.asarray(scores_N, dtype=np.float64)[kept]


def has_both(targets_N: Floats) -> bool:
    """Return whether there are positive and negative cases."""
    return bool((targets_N == 1).any() and (targets_N == 0).any())


def _macro(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the classes in which it is defined."""
    means = dict[str, float]()
    for metric in found[0]:
        if metric not in {"cases", "positive"}:
            values = [of_class[metric] for of_class in found if not np.isnan(of_class[metric])]
            means[metric] = float(np.mean(values)) if values else NAN
    return means
