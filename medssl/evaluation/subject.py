"""What is to be judged: finished finetunings, and the cases that none of them saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.config.load import validate
from medssl.errors import InputError
from medssl.evaluation.kinds.base import Held
from medssl.labelled.cases import LabelledCase, LabelledSet
from medssl.labelled.read import read_labelled
from medssl.runs.folder import read_json
from medssl.runs.manifest import Manifest
from medssl.runs.private import read_config
from medssl.training.finetune_config import FinetuneConfig
from medssl.training.task_model import read_description

Json = dict[str, Any]
_TOLD = ("start", "strategy", "seed", "steps", "train_cases", "monitor", "encoder_digest")
"""What a page says of how a model was trained."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Finished finetunings and the cases to judge them by."""

    labelled: LabelledSet
    members: tuple[str, ...]
    cases: tuple[LabelledCase, ...]
    val: tuple[Held, ...]
    """Those that chose the weights, each with the finetunings that did not train on it."""
    weights: dict[str, str]
    """Digest of each member's weights."""
    provenance: tuple[Json, ...]
    """Of each finetuning: what it ran on, and how its members were trained; no paths."""


@dataclass(frozen=True, kw_only=True)
class _Finetuning:
    labelled: LabelledSet
    members: tuple[str, ...]
    cases: tuple[LabelledCase, ...]
    val: tuple[LabelledCase, ...]
    trained: frozenset[str]
    """Keys of the cases that it learned from."""
    weights: dict[str, str]
    provenance: Json


def read_subject(folders: Sequence[Path], split: str) -> Subject:
    """Return what to evaluate, after checking that the data are those it was trained on.

    Args:
        folders: Of one finetuning, or of several that are to answer together.
        split: Which cases.

    Raises:
        InputError: A folder is not a finished finetuning, its data set has changed, or several do
            not hold the same cases aside.
    """
    runs = [_read_one(folder, split) for folder in folders]
    first = runs[0]
    for folder, other in zip(folders, runs, strict=True):
        if (other.members, other.cases) != (first.members, first.cases):
            raise InputError(
                f"{folder}: this finetuning holds other cases aside than {folders[0]}, or has not "
                "the same models",
                hint="an ensemble is of finetunings with the same split, such as the folds of one",
            )
    weights = {
        name if len(folders) == 1 else f"{name}-{number}": digest
        for number, run in enumerate(runs)
        for name, digest in run.weights.items()
    }
    return Subject(
        labelled=first.labelled,
        members=first.members,
        cases=first.cases,
        val=_held(runs),
        weights=weights,
        provenance=tuple(run.provenance for run in runs),
    )


def _held(runs: Sequence[_Finetuning]) -> tuple[Held, ...]:
    """Return every case of validation with the finetunings that did not learn from it."""
    cases = {case.case_key: case for run in runs for case in run.val}
    return tuple(
        Held(case, tuple(n for n, run in enumerate(runs) if key not in run.trained))
        for key, case in sorted(cases.items())
    )


def _read_one(finetune: Path, split: str) -> _Finetuning:
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
    parts = {
        part: tuple(labelled.case(key) for key in splits["cases"][part]) for part in (split, "val")
    }
    if not parts[split]:
        raise InputError(
            f"{finetune}: no case was held aside as {split}",
            hint=f"finetune with splits.{split} above 0",
        )
    models = {str(member): read_description(finetune / member) for member in config.members}
    return _Finetuning(
        labelled=labelled,
        members=config.members,
        cases=parts[split],
        val=parts["val"],
        trained=frozenset(splits["cases"]["train"]),
        weights={name: about.weights_digest for name, about in models.items()},
        provenance={
            "finished_at": manifest.finished_at,
            "seed": manifest.seed,
            "dataset_digest": labelled.digest,
            "versions": manifest.versions,
            "models": {
                name: {key: about.training[key] for key in _TOLD if key in about.training}
                | {"weights_digest": about.weights_digest}
                for name, about in models.items()
            },
        },
    )
