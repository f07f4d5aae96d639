"""Segmentations: masks against references, structure by structure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from medssl.evaluation.intervals import Resampling
from medssl.evaluation.kinds.base import JudgeConfig, Judgement, Trial, identity
from medssl.evaluation.report import Example, save_overlays, save_scores
from medssl.evaluation.segmentation_metrics import score_masks
from medssl.evaluation.summary import MEAN, Metric, summarise_means
from medssl.inference.predictor import Predictor
from medssl.io.volume import Volume
from medssl.labelled.cases import LabelledCase, read_pair
from medssl.runs.progress import track

DICE = Metric("dice", "mean Dice", (0.0, 1.0))
SHOWN = (
    DICE,
    Metric("surface_dice", "surface Dice", (0.0, 1.0)),
    Metric("hd95_mm", "HD95, mm", (0.0, np.inf), larger_is_better=False),
    Metric("absolute_volume_error_ml", "volume error, ml", (0.0, np.inf), larger_is_better=False),
)
EMPTY_REFERENCES = (
    "A structure that a case's reference does not hold has no Dice there and no distance: the case "
    "does not count for it, and what was predicted of it all the same is in cases.csv. One that is "
    "missed altogether has Dice 0 and the diagonal of the image as its HD95 (Metrics Reloaded)."
)


def judge(trial: Trial, config: JudgeConfig, how: Resampling, folder: Path) -> Judgement:
    """Predict every case with every model, score the masks, and draw telling cases."""
    rows = list[pd.DataFrame]()
    for case in track(trial.cases, "evaluate"):
        volume, label_IJK = read_pair(case, trial.labelled.modality)
        for model, predictor in trial.predictors.items():
            masks = predictor.masks(volume)
            rows.append(_rows(case, model, masks, volume, label_IJK, predictor, config))
    table = pd.concat(rows, ignore_index=True)
    metrics = summarise_means(table, SHOWN, how)
    answers = next(iter(trial.predictors.values())).task.answers
    examples = [_example(trial, table, key) for key in telling(table)]
    save_overlays(folder / "overlays.png", examples, ("background", *answers))
    save_scores(folder / "scores.png", table)
    return Judgement(
        table=table,
        metrics=metrics,
        headline=DICE,
        answer=MEAN,
        shown=SHOWN,
        figures={
            "Every case": "scores.png",
            "Best, median and worst case of the first model": "overlays.png",
        },
        notes=(EMPTY_REFERENCES,),
    )


def _rows(
    case: LabelledCase,
    model: str,
    masks_CIJK: NDArray[np.bool_],
    volume: Volume,
    label_IJK: NDArray[np.uint8],
    predictor: Predictor,
    config: JudgeConfig,
) -> pd.DataFrame:
    reference_CIJK, judged_IJK = truth(predictor, label_IJK)
    scored = score_masks(
        masks_CIJK & judged_IJK,
        reference_CIJK & judged_IJK,
        predictor.task.answers,
        spacing_mm=volume.spacing_mm,
        tolerance_mm=config.tolerance_mm,
    ).rename(columns={"class": "answer"})
    for name, value in identity(case, model, "").items():
        if name != "answer":
            scored.insert(0, name, value)
    return scored


def truth(
    predictor: Predictor, label_IJK: NDArray[np.uint8]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the reference of every answer, ``(C, I, J, K)``, and which voxels count."""
    task: Any = predictor.task
    label_11IJK = torch.from_numpy(label_IJK.astype(np.int16))[None, None]
    reference, judged = task.reference_masks(label_11IJK)[0], task.judged(label_11IJK)[0, 0]
    return reference.numpy(), judged.numpy()


def telling(table: pd.DataFrame) -> list[str]:
    """Return the best, the median and the worst case of the first model, each once."""
    first = table[table["model"] == table["model"].iloc[0]]
    ranked = first.groupby("case_key")["dice"].mean().dropna().sort_values(ascending=False)
    keys = [str(key) for key in ranked.index] or [str(table["case_key"].iloc[0])]
    return list(dict.fromkeys([keys[0], keys[len(keys) // 2], keys[-1]]))


def _example(trial: Trial, table: pd.DataFrame, case_key: str) -> Example:
    volume, label_IJK = read_pair(trial.labelled.case(case_key), trial.labelled.modality)
    dice = table[table["case_key"] == case_key].groupby("model")["dice"].mean()
    models: Mapping[str, Predictor] = trial.predictors
    reference_CIJK, _ = truth(next(iter(models.values())), label_IJK)
    return Example(
        case_key=case_key,
        volume=volume,
        reference_IJK=painted(reference_CIJK),
        masks={model: painted(predictor.masks(volume)) for model, predictor in models.items()},
        dice={model: float(dice[model]) for model in models},
    )


def painted(masks_CIJK: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return masks as numbers from 1 on; where they overlap the last one is seen."""
    numbers_IJK = np.zeros(masks_CIJK.shape[1:], np.uint8)
    for number, mask_IJK in enumerate(masks_CIJK, start=1):
        numbers_IJK[mask_IJK] = number
    return numbers_IJK
