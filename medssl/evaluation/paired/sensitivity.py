"""How much an answer depends on which of several ways to ask is taken."""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from medssl.evaluation.paired.asking import Asking

Json = dict[str, Any]
Floats = NDArray[np.float64]


def prompt_sensitivity(asking: Asking, image_ND: Floats) -> list[Json]:
    """Return a row per finding: how far templates agree on the same studies, without any label.

    ``range``
        mean over studies of the highest less the lowest probability that any template gives.
    ``agreement``
        mean rank correlation (Spearman) of the studies' scores, over all pairs of templates; NaN
        where a template gives all studies the same score.

    Empty where there are not two templates.
    """
    templates = list(asking.prompts.templates.values())
    if len(templates) < 2:  # noqa: PLR2004 - nothing to compare
        return []
    rows = list[Json]()
    for finding in asking.prompts.findings:
        score_TN = np.stack([asking.finding(image_ND, finding, [way]) for way in templates])
        pairs = combinations(score_TN, 2)
        rows.append(
            {
                "finding": finding.name,
                "range": float((score_TN.max(axis=0) - score_TN.min(axis=0)).mean()),
                "agreement": float(np.mean([_spearman(a, b) for a, b in pairs])),
            }
        )
    return rows


def _spearman(first_N: Floats, second_N: Floats) -> float:
    ranks = rankdata(first_N), rankdata(second_N)
    if min(np.ptp(rank) for rank in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
