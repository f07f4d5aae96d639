"""The evaluate stage: finetuned models on the cases held aside, with intervals."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from medssl.config.base import Config
from medssl.config.load import validate
from medssl.errors import InputError
from medssl.evaluation.metrics import Estimate, dice_per_class, mean_over_patients
from medssl.evaluation.report import Example, save_overlays, write_report
from medssl.inference.predictor import Predictor, choose_device
from medssl.labelled.cases import LabelledCase, LabelledSet, read_pair
from medssl.labelled.read import read_labelled
from medssl.runs.folder import atomic_path, read_json, write_json
from medssl.runs.manifest import Manifest
from medssl.runs.private import read_config
from medssl.runs.progress import track
from medssl.runs.stage import StageResult, StageRun, open_stage
from medssl.runs.tracking import TrackingConfig
from medssl.training.finetune_config import FinetuneConfig
from medssl.training.task_model import load_task_model, read_description

MEAN = "mean"
"""Stands beside the class names for the mean over the classes a case holds."""
EMPTY_REFERENCES = (
    "A class that a case's reference does not hold has no Dice there: the case does not count for "
    "that class, and what was predicted of it is listed in cases.csv."
)


class EvaluateConfig(Config):
    """Everything ``medssl evaluate`` reads."""

    finetune: Path
    """Folder of a finished finetuning."""
    out: Path
    """Folder for the results."""
    split: Literal["test", "val"] = "test"
    """Which cases; those of `val` chose the weights, so their score is too good."""
    resamples: Annotated[int, Field(ge=100)] = 5000
    """Bootstrap resamples behind each interval."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Share of intervals that would hold the true mean."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run; `auto` takes a GPU when there is one."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the resamples."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A finished finetuning and the cases to judge it by."""

    labelled: LabelledSet
    members: tuple[str, ...]
    cases: tuple[LabelledCase, ...]
    weights: dict[str, str]
    """Digest of each member's weights."""


def evaluate(config: EvaluateConfig, *, overwrite: bool = False) -> StageResult:
    """Score the models of a finetuning on cases they never saw, on the scans' own grids.

    Leaves ``metrics.json``, ``cases.csv``, ``overlays.png`` and ``report.html``.

    Raises:
        InputError: The finetuning is missing, unfinished, or its data have changed.
        FolderError: ``config.out`` holds something else, and ``overwrite`` is off.
    """
    subject = read_subject(config.finetune, config.split)
    inputs = {"dataset": subject.labelled.digest, **subject.weights}
    with open_stage(
        "evaluate",
        config.out,
        config,
        inputs=inputs,
        tracking=config.tracking,
        overwrite=overwrite,
    ) as run:
        if run.previous:
            return run.previous
        table, masks = _score(config, subject)
        metrics = summarise(table, subject.labelled.labels, config)
        write_json(config.out / "metrics.json", metrics)
        with atomic_path(config.out / "cases.csv") as partial:
            table.to_csv(partial, index=False)
        examples = [_example(subject, table, masks, key) for key in _telling(table, subject)]
        save_overlays(config.out / "overlays.png", examples, subject.labelled.labels)
        write_report(config.out, subject.labelled, metrics, table)
        return _finish(run, metrics)


def read_subject(finetune: Path, split: str) -> Subject:
    """Return what to evaluate, after checking that the data are those it was trained on.

    Raises:
        InputError: The folder is not a finished finetuning, or its data set has changed.
    """
    manifest = Manifest.read(finetune)
    tree = read_config(finetune)
    if manifest is None or manifest.stage != "finetune" or tree is None:
        raise InputError(
            f"{finetune}: this is not the folder of a finetuning",
            hint="give the `out` folder of `medssl finetune`",
        )
    if manifest.status != "finished":
        raise InputError(
            f"{finetune}: this finetuning is not finished",
            hint="run `medssl finetune` with the same configuration again: it continues",
        )
    config = validate(FinetuneConfig, tree, where=str(finetune / "config.yaml"))
    labelled, splits = read_labelled(config.dataset), read_json(finetune / "splits.json")
    if labelled.digest != splits["digest"]:
        raise InputError(
            f"{config.dataset}: the data set is not the one this finetuning used",
            hint="cases held aside then may not be held aside now; finetune again",
        )
    cases = tuple(labelled.case(key) for key in splits["cases"][split])
    if not cases:
        raise InputError(
            f"{finetune}: no case was held aside as {split}",
            hint=f"finetune with splits.{split} above 0",
        )
    weights = {str(m): read_description(finetune / m).weights_digest for m in config.members}
    return Subject(labelled=labelled, members=config.members, cases=cases, weights=weights)


Masks = dict[tuple[str, str], NDArray[np.uint8]]


def _score(config: EvaluateConfig, subject: Subject) -> tuple[pd.DataFrame, Masks]:
    device = choose_device(config.device)
    predictors = {
        member: Predictor(load_task_model(config.finetune / member, trust_names=True), device)
        for member in subject.members
    }
    rows, masks = list[dict[str, Any]](), Masks()
    for case in track(subject.cases, "evaluate"):
        volume, reference_IJK = read_pair(case, subject.labelled.modality)
        for member, predictor in predictors.items():
            mask_IJK = predictor.predict(volume)
            masks[case.case_key, member] = mask_IJK
            rows += _rows(case, member, mask_IJK, reference_IJK, subject.labelled.labels)
    return pd.DataFrame(rows), masks


def _rows(
    case: LabelledCase,
    member: str,
    mask_IJK: NDArray[np.uint8],
    reference_IJK: NDArray[np.uint8],
    labels: Sequence[str],
) -> list[dict[str, Any]]:
    dice = dice_per_class(mask_IJK, reference_IJK, len(labels))
    return [
        {
            "case_key": case.case_key,
            "patient_key": case.patient_key,
            "model": member,
            "class": label,
            "dice": dice[number - 1],
            "reference_voxels": int(np.count_nonzero(reference_IJK == number)),
            "predicted_voxels": int(np.count_nonzero(mask_IJK == number)),
        }
        for number, label in enumerate(labels[1:], start=1)
    ]


def summarise(table: pd.DataFrame, labels: Sequence[str], config: EvaluateConfig) -> dict[str, Any]:
    """Return means with intervals of every model and class, and the paired difference.

    Args:
        table: One row per case, model and class; see ``cases.csv``.
        labels: Class names, the background first.
        config: Resamples, confidence and seed.
    """
    wide = _by_case(table, labels)
    members = list(dict.fromkeys(table["model"]))
    names = [*labels[1:], MEAN]

    def estimate(values: "pd.Series[float]") -> Estimate:
        return mean_over_patients(
            values.to_list(),
            values.index.get_level_values("patient_key").to_list(),
            resamples=config.resamples,
            confidence=config.confidence,
            seed=config.seed,
        )

    models = {m: {n: asdict(estimate(wide[m, n])) for n in names} for m in members}
    difference = None
    if set(members) == {"pretrained", "scratch"}:
        difference = {
            name: asdict(estimate(wide["pretrained", name] - wide["scratch", name]))
            for name in names
        }
    return {
        "split": config.split,
        "cases": int(table["case_key"].nunique()),
        "patients": int(table["patient_key"].nunique()),
        "confidence": config.confidence,
        "resamples": config.resamples,
        "seed": config.seed,
        "empty_references": EMPTY_REFERENCES,
        "dice": models,
        "difference": difference,
        "verdict": verdict(difference, config.confidence),
    }


def verdict(difference: dict[str, dict[str, Any]] | None, confidence: float) -> str:
    """Return in one sentence whether pretraining helped, and how sure that is."""
    if difference is None:
        return "There is one model, so there is nothing to compare it with."
    found = Estimate(**difference[MEAN])
    interval = f"{found.low:+.3f} to {found.high:+.3f}, {confidence:.0%} interval"
    who = f"{found.patients} patients"
    if np.isnan(found.low):
        return f"Too few patients ({found.patients}) to say whether pretraining made a difference."
    if found.includes(0.0):
        return (
            f"No difference is shown: pretraining changed mean Dice by {found.mean:+.3f} over "
            f"{who}, and the interval includes 0 ({interval})."
        )
    helped = "raised" if found.mean > 0 else "lowered"
    return f"Pretraining {helped} mean Dice by {abs(found.mean):.3f} over {who} ({interval})."


def _by_case(table: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Return Dice with a row per case and a column per (model, class), with the class mean."""
    wide = table.pivot_table(
        index=["case_key", "patient_key"],
        columns=["model", "class"],
        values="dice",
        dropna=False,
        sort=False,
    )
    for member in dict.fromkeys(table["model"]):
        wide[member, MEAN] = wide[member][list(labels[1:])].mean(axis=1)  # NaN does not count
    return wide


def _telling(table: pd.DataFrame, subject: Subject) -> list[str]:
    """Return the best, the median and the worst case of the first model, each once."""
    first = table[table["model"] == subject.members[0]]
    ranked = first.groupby("case_key")["dice"].mean().dropna().sort_values(ascending=False)
    keys = [str(key) for key in ranked.index] or [case.case_key for case in subject.cases]
    return list(dict.fromkeys([keys[0], keys[len(keys) // 2], keys[-1]]))


def _example(subject: Subject, table: pd.DataFrame, masks: Masks, case_key: str) -> Example:
    volume, reference_IJK = read_pair(subject.labelled.case(case_key), subject.labelled.modality)
    dice = table[table["case_key"] == case_key].groupby("model")["dice"].mean()
    return Example(
        case_key=case_key,
        volume=volume,
        reference_IJK=reference_IJK,
        masks={m: masks[case_key, m] for m in subject.members},
        dice={m: float(dice[m]) for m in subject.members},
    )


def _finish(run: StageRun, metrics: dict[str, Any]) -> StageResult:
    summary: dict[str, Any] = {"cases": metrics["cases"], "patients": metrics["patients"]}
    for member, by_class in metrics["dice"].items():
        summary |= {
            f"{member}_dice_{name}" if name != MEAN else f"{member}_dice": round(value["mean"], 4)
            for name, value in by_class.items()
        }
    if metrics["difference"] is not None:
        found = metrics["difference"][MEAN]
        summary |= {
            "difference": round(found["mean"], 4),
            "difference_low": round(found["low"], 4),
            "difference_high": round(found["high"], 4),
        }
    summary["verdict"] = metrics["verdict"]
    look_at = {
        "report": "report.html",
        "overlays": "overlays.png",
        "numbers": "metrics.json",
        "cases": "cases.csv",
    }
    stays = ["report.html", "overlays.png"]
    return run.finish(summary=summary, look_at=look_at, stays=stays)
