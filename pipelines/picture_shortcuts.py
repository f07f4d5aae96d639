"""How far a classifier gets without a look at what a picture shows: size, border, thumbnail.

Pictures collected from several sources often differ by class in size, border and sharpness, and a
network that learns the source scores well where the sources are the same again (Zech et al. 2018,
PLoS Med 15:e1002683; DeGrave et al. 2021, Nat Mach Intell 3:610). What a few such numbers reach is
what a score on the same pictures is to be compared with.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import adaptive_avg_pool2d

from medssl.evaluation.classification_metrics import auroc
from medssl.evaluation.intervals import bootstrap_statistic
from medssl.labelled.cases import LabelledCase, LabelledSet, read_image

Floats = NDArray[np.float64]
CELLS: Final = 8
STRENGTH: Final = 1.0
"""Inverse of the penalty of logistic regression; chosen before anything was scored."""


def size(picture_IJ: Floats) -> Floats:
    """Return the logarithms of width and height."""
    return np.log(picture_IJ.shape)


def border(picture_IJ: Floats) -> Floats:
    """Return the mean of each outermost line, and how much all of them vary."""
    lines = (picture_IJ[0], picture_IJ[-1], picture_IJ[:, 0], picture_IJ[:, -1])
    return np.array([*(line.mean() for line in lines), np.concatenate(lines).std()])


def thumbnail(picture_IJ: Floats) -> Floats:
    """Return the means of 8 x 8 equal areas."""
    return adaptive_avg_pool2d(torch.from_numpy(picture_IJ)[None], CELLS).numpy().ravel()


SHORTCUTS: Final[Mapping[str, Callable[[Floats], Floats]]] = {
    "size": size,
    "border": border,
    "thumbnail": thumbnail,
}


def shortcuts(
    labelled: LabelledSet, parts: Mapping[str, Sequence[str]], column: str
) -> list[dict[str, Any]]:
    """Return, per shortcut, AUROC of logistic regression fitted on ``train``: of val, and of test.

    Args:
        labelled: Pictures, with a column of 0 and 1.
        parts: Case keys of ``train``, ``val`` and ``test``.
        column: Which.
    """
    cases = {part: [labelled.case(key) for key in keys] for part, keys in parts.items()}
    pictures = {
        part: [_picture(case, labelled.modality) for case in some] for part, some in cases.items()
    }
    truth = {
        part: np.array([float(case.targets[column]) for case in some])
        for part, some in cases.items()
    }
    found = []
    for name, describe in SHORTCUTS.items():
        seen = {part: np.stack([describe(p) for p in some]) for part, some in pictures.items()}
        model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=5000))
        model.fit(seen["train"], truth["train"])
        scores = {part: model.decision_function(seen[part]) for part in ("val", "test")}
        test = bootstrap_statistic(
            auroc,
            (truth["test"], scores["test"]),
            [case.patient_key for case in cases["test"]],
            bounds=(0.0, 1.0),
        )
        found.append(
            {
                "shortcut": name,
                "val_auroc": auroc(truth["val"], scores["val"]),
                "auroc": test.value, "low": test.low, "high": test.high,
            }
        )  # fmt: skip
    return found


def _picture(case: LabelledCase, modality: str) -> Floats:
    return read_image(case, modality).array_IJK[:, :, 0].astype(np.float64)
