"""How good a network is on whole volumes that choose its weights: every patient counts once."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import numpy as np
import torch
from monai.metrics import DiceMetric, compute_roc_auc
from numpy.typing import NDArray
from torch import Tensor, nn

from medssl.data.preprocessing import build
from medssl.tasks.base import Kind, Task
from medssl.tasks.classification import UNKNOWN, Classification
from medssl.tasks.regression import Regression
from medssl.tasks.segmentation import Segmentation
from medssl.training.patches import ANNOTATED, Patch

Scores = dict[str, float]


@torch.no_grad()
def score(
    network: nn.Module,
    task: Task,
    volumes: Sequence[Patch],
    patients: Sequence[str],
    *,
    patch_voxels: tuple[int, int, int],
    device: torch.device | str = "cpu",
) -> Scores:
    """Return the scores of a task, ``task.monitor`` among them; NaN where nothing can be measured.

    Args:
        network: Left in training mode.
        task: Its task.
        volumes: Whole ones, on the network's own grid.
        patients: Whose each is; several volumes of one are averaged first.
        patch_voxels: What the network is given at once.
        device: Where it runs.
    """
    inferer = build(task.inferer_spec(patch_voxels))
    network.eval()
    outputs = (
        inferer(volume["image"][None].to(device), network).float().cpu() for volume in volumes
    )
    scores = _SCORES[task.kind](task, outputs, volumes, patients)
    network.train()
    return scores


def _dice(
    task: Segmentation, outputs: Any, volumes: Sequence[Patch], patients: Sequence[str]
) -> Scores:
    """Mean Dice of every structure and the mean of these; a volume without one does not count."""
    metric = DiceMetric(reduction="none", ignore_empty=True)
    for logits_1CIJK, volume in zip(outputs, volumes, strict=True):
        label_11IJK = volume["label"][None]
        judged = task.judged(label_11IJK)
        masks = task.masks(logits_1CIJK) & judged, task.reference_masks(label_11IJK) & judged
        metric(*(mask.float() for mask in masks))
    dice_NC = cast(Tensor, metric.aggregate()).double().numpy()
    for dice_C, volume in zip(dice_NC, volumes, strict=True):
        if ANNOTATED in volume:
            channels = volume[ANNOTATED].numpy()
            dice_C[~channels[-len(dice_C) :]] = math.nan  # the background is no answer
    by_structure = _mean(by_patient(dice_NC, patients))
    names = (f"val/dice_{name}" for name in task.answers)
    return {"val/dice": _mean_known(by_structure), **dict(zip(names, by_structure, strict=True))}


def _auroc(
    task: Classification, outputs: Any, volumes: Sequence[Patch], patients: Sequence[str]
) -> Scores:
    """AUROC of each class against the rest, and their mean; the loss, to tell equals apart."""
    logits_NC = torch.cat(list(outputs))
    target = torch.stack([volume["target"] for volume in volumes])
    shares_NC = task.probabilities(logits_NC.double())
    scores_NC = by_patient(shares_NC.numpy(), patients)
    truth_NC = by_patient(findings(task, target).numpy(), patients)
    by_class = [
        auroc(truth_NC[:, column], scores_NC[:, column]) for column in range(truth_NC.shape[1])
    ]
    names = (f"val/auroc_{name}" for name in task.answers)
    loss = {"val/loss": float(task.loss(logits_NC, target))}
    return {"val/auroc": _mean_known(by_class), **dict(zip(names, by_class, strict=True)), **loss}


def _mae(
    task: Regression, outputs: Any, volumes: Sequence[Patch], patients: Sequence[str]
) -> Scores:
    """Mean absolute error of every number, and the mean of them in units of their spread."""
    predicted_NT = task.in_units(torch.cat(list(outputs)))
    target_NT = torch.stack([volume["target"] for volume in volumes])
    error_NT = by_patient((predicted_NT - target_NT).abs().double().numpy(), patients)
    by_number = _mean(error_NT)
    stds = task.config.stds or (1.0,) * len(by_number)
    scaled = _mean_known([error / std for error, std in zip(by_number, stds, strict=True)])
    names = (f"val/mae_{name}" for name in task.answers)
    return {"val/neg_mae": -scaled, **dict(zip(names, by_number, strict=True))}


_SCORES: Final[dict[Kind, Callable[..., Scores]]] = {
    "segmentation": _dice,
    "classification": _auroc,
    "regression": _mae,
}

UNMEASURED: Final[dict[Kind, str]] = {
    "segmentation": "none of its voxels that count is labelled",
    "classification": "of no class it holds cases both with and without",
    "regression": "none of its cases has a known number",
}
"""Why a validation can have no score."""


def findings(task: Classification, target: Tensor) -> Tensor:
    """Return targets as ``(N, classes)`` of 0, 1, and NaN where unknown, in float64."""
    if not task.config.one_of_several:
        return target.double()
    truth_NC = nn.functional.one_hot(target.clamp(min=0), task.out_channels).double()
    truth_NC[target == UNKNOWN] = math.nan
    return truth_NC


def auroc(truth_N: NDArray[np.float64], scores_N: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve over what is known; NaN where one class is missing."""
    known = ~np.isnan(truth_N)
    positive_N = truth_N[known] > 0.5  # noqa: PLR2004 - of the mean of a patient's volumes
    if positive_N.all() or not positive_N.any():
        return math.nan
    pair = torch.from_numpy(scores_N[known]), torch.from_numpy(positive_N).int()
    return float(cast(float, compute_roc_auc(*pair)))


def by_patient(values_NC: NDArray[np.float64], patients: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean of every patient's rows, NaN left out, in order of appearance."""
    names = list(dict.fromkeys(patients))
    whose = np.array([names.index(patient) for patient in patients])
    known_NC = ~np.isnan(values_NC)
    sums, counts = (np.zeros((len(names), values_NC.shape[1])) for _ in range(2))
    np.add.at(sums, whose, np.where(known_NC, values_NC, 0.0))
    np.add.at(counts, whose, known_NC)
    means: NDArray[np.float64] = np.divide(
        sums, counts, out=np.full_like(sums, math.nan), where=counts > 0
    )
    return means


def _mean(values_NC: NDArray[np.float64]) -> list[float]:
    """Return the mean of every column, NaN left out."""
    means: list[float] = by_patient(values_NC, ["all"] * len(values_NC))[0].tolist()
    return means


def _mean_known(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
