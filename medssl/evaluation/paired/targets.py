"""What is true of studies, as labels of their reports or the crop store tell it."""

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from medssl.data.store import CropStore
from medssl.evaluation.paired.prompts import Question
from medssl.reports.pairs import ABSENT, PRESENT, Pair

Floats = NDArray[np.float64]
Unmentioned = Literal["unknown", "absent"]
NO_ANSWER: Final = -1


def finding_targets(pairs: Sequence[Pair], name: str, unmentioned: Unmentioned) -> Floats:
    """Return 1 for studies with a finding, 0 without, NaN where that is not known, ``(N,)``.

    Args:
        pairs: The studies.
        name: The finding. A report that is uncertain of it counts as not known.
        unmentioned: What a finding is that a report says nothing of.
    """
    silent = float("nan") if unmentioned == "unknown" else float(ABSENT)
    known = {PRESENT: 1.0, ABSENT: 0.0}
    return np.array(
        [known.get(pair.labels[name], np.nan) if name in pair.labels else silent for pair in pairs],
        np.float64,
    )


def true_answers(pairs: Sequence[Pair], question: Question, store: CropStore) -> NDArray[np.int64]:
    """Return the number of the true answer of each study, -1 where there is no single one.

    Args:
        pairs: The studies; all their volumes are in the store.
        question: What is asked.
        store: Which knows the modality.
    """
    names = list(question.answers)

    def told(pair: Pair) -> set[str]:
        if question.truth == "modality":
            return {store.entry(key).modality for key in pair.volume_keys}
        return {name for name in names if pair.labels.get(name) == PRESENT}

    found = [told(pair) for pair in pairs]
    return np.array(
        [
            names.index(next(iter(one))) if len(one) == 1 and one <= set(names) else NO_ANSWER
            for one in found
        ],
        np.int64,
    )
