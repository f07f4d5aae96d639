"""How well scores for words fit what is true: areas under curves, operating points, intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from medssl.evaluation import weighted
from medssl.evaluation.classification_metrics import choose_thresholds
from medssl.evaluation.draws import Draws
from medssl.evaluation.intervals import Resampling

Floats = NDArray[np.float64]
Json = dict[str, Any]
SHARE: Final = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a model says of one finding, and what is true."""

    target_N: Floats
    """1, 0 or NaN."""
    score_N: Floats

    def known(self) -> Floats:
        """Return the targets that are known."""
        return self.target_N[~np.isnan(self.target_N)]

    def enough(self, least: int) -> bool:
        """Return whether so many studies have the finding, and so many do not."""
        known = self.known()
        return min(int((known == 1).sum()), int((known == 0).sum())) >= least


class Measuring:
    """Measures findings on the same draws of patients."""

    def __init__(self, patients: Sequence[str], how: Resampling, least: int) -> None:
        """Draw nothing yet.

        Args:
            patients: Whose each study is.
            how: How intervals are made.
            least: Studies with a finding, and without it, for it to be measured.
        """
        self._draws, self._least = Draws(patients, how), least

    def finding(self, test: Scored, val: Scored | None) -> Json:
        """Return the areas under both curves, and the operating point that ``val`` chose.

        Args:
            test: What is measured.
            val: Studies of the validation; None where there are none.
        """
        known = test.known()
        row: Json = {
            "studies": len(known),
            "positive": int((known == 1).sum()),
            "prevalence": float(known.mean()) if len(known) else None,
            "auroc": None,
            "auprc": None,
            "operating": None,
        }
        if not test.enough(self._least):
            return row
        curves = {"auroc": weighted.auroc, "auprc": weighted.auprc}
        row |= {name: self._estimate(curve(*_pair(test))) for name, curve in curves.items()}
        if val is not None and val.enough(self._least):
            row["operating"] = self._operating(test, val)
        return row

    def mean_auroc(self, scored: Sequence[Scored]) -> Json | None:
        """Return the mean over findings that can be measured, None where none can."""
        enough = [one for one in scored if one.enough(self._least)]
        if not enough:
            return None
        return self._estimate(weighted.mean_of([weighted.auroc(*_pair(one)) for one in enough]))

    def question(self, truth_N: NDArray[np.int64], score_NC: Floats, names: Sequence[str]) -> Json:
        """Return accuracy, the same averaged over answers, and areas under curves.

        Args:
            truth_N: Number of the true answer, -1 where it is not known.
            score_NC: How probable each answer is.
            names: Of the answers.
        """
        known = truth_N >= 0
        truth_N1 = np.where(known, truth_N, np.nan).astype(np.float64)
        chosen_N = score_NC.argmax(axis=1).astype(np.float64)
        each = {
            name: Scored(
                target_N=np.where(known, truth_N == n, np.nan).astype(np.float64),
                score_N=score_NC[:, n],
            )
            for n, name in enumerate(names)
        }
        answered = len(np.unique(truth_N[known])) > 1
        row: Json = {
            "studies": int(known.sum()),
            "auroc": self.mean_auroc(list(each.values())),
            "answers": {name: self.finding(scored, None) for name, scored in each.items()},
        }
        for name, factory in {
            "accuracy": weighted.accuracy,
            "mean_recall": weighted.recall_over_classes,
        }.items():
            row[name] = self._estimate(factory(truth_N1, chosen_N)) if answered else None
        return row

    def _operating(self, test: Scored, val: Scored) -> Json:
        threshold = choose_thresholds(*_pair(val)).best_f1
        target_N, called_N = test.target_N, (test.score_N >= threshold).astype(np.float64)
        measured = {
            "sensitivity": weighted.sensitivity,
            "specificity": weighted.specificity,
            "f1": weighted.f1,
            "balanced_accuracy": weighted.balanced_accuracy,
        }
        found = {name: self._estimate(of(target_N, called_N)) for name, of in measured.items()}
        return {"threshold": threshold, **found}

    def _estimate(self, statistic: weighted.Weighted) -> Json:
        return asdict(self._draws.estimate(statistic, SHARE))


def spread(by_template: Mapping[str, Json | None]) -> float | None:
    """Return how far the best way to say something is above the worst, None for less than two."""
    values = [found["value"] for found in by_template.values() if found is not None]
    return max(values) - min(values) if len(values) > 1 else None


def _pair(scored: Scored) -> tuple[Floats, Floats]:
    return scored.target_N, scored.score_N
