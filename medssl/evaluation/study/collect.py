"""What the members of a study left, in one place."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from medssl.errors import MedSSLError
from medssl.evaluation.study.config import StudyConfig
from medssl.evaluation.study.members import Member, evaluate_configs, folds_of
from medssl.evaluation.study.scores import (
    STARTS,
    compare,
    corrected,
    headline_of,
    sentence,
)
from medssl.evaluation.summary import Metric
from medssl.labelled.cases import LabelledSet
from medssl.runs.folder import read_json
from medssl.runs.manifest import Manifest

Json = dict[str, Any]


class Collected(NamedTuple):
    """Everything that is known about a study."""

    metric: Metric
    cases: pd.DataFrame
    """Rows of all ``cases.csv``, with ``fraction`` and ``seed`` in front."""
    fractions: list[Json]
    """What each share of the labels shows."""
    members: list[Json]
    """What became of each member."""


def collect(
    config: StudyConfig,
    labelled: LabelledSet,
    members: Sequence[Member],
    problems: Mapping[Member, str],
    *,
    held_aside: bool,
) -> Collected:
    """Return the tables of a study.

    Raises:
        MedSSLError: No member is there.
    """
    done = [member for member in members if member not in problems]
    if not done:
        raise MedSSLError(
            f"all {len(members)} members failed; the first: {next(iter(problems.values()))}",
            hint="mend that, and run the same command again",
        )
    folders = {m: [c.out for c in evaluate_configs(m, config, held_aside=held_aside)] for m in done}
    cases = pd.concat(
        [
            pd.read_csv(folder / "cases.csv").assign(fraction=member.fraction, seed=member.seed)
            for member, of_member in folders.items()
            for folder in of_member
        ],
        ignore_index=True,
    )
    metric, answer = headline_of(read_json(folders[done[0]][0] / "metrics.json"))
    labels = {member: _labels(member, config, labelled) for member in done}
    fractions = []
    for fraction in sorted({member.fraction for member in done}):
        rows = cases[cases["fraction"] == fraction]
        of_fraction = [labels[member] for member in done if member.fraction == fraction]
        fractions.append(
            {
                "fraction": fraction,
                "patients": round(fmean(row["train_patients"] for row in of_fraction)),
                "seeds": sorted(member.seed for member in done if member.fraction == fraction),
                **compare(rows, metric, answer, config.how),
                "validation": {s: fmean(row[f"{s}_val"] for row in of_fraction) for s in STARTS},
            }
        )
    corrected(fractions)
    for row in fractions:
        row["verdict"] = sentence(row, metric, config.study.confidence)
    table = [
        _member(member, fractions, labels.get(member, {}), problems.get(member))
        for member in sorted(members)
    ]
    front = ["fraction", "seed"]
    cases = cases[front + [name for name in cases.columns if name not in front]]
    return Collected(metric, cases, fractions, table)


def _member(member: Member, fractions: Sequence[Json], labels: Json, problem: str | None) -> Json:
    row: Json = {"fraction": member.fraction, "seed": member.seed, **labels}
    for found in fractions:
        if found["fraction"] == member.fraction and member.seed in found["seeds"]:
            place = found["seeds"].index(member.seed)
            row |= {name: found[name]["by_seed"][place] for name in (*STARTS, "difference")}
    return row | {"problem": problem}


def _labels(member: Member, config: StudyConfig, labelled: LabelledSet) -> Json:
    """Return how many patients trained and chose weights, and how well those did."""
    train, val = set[str](), set[str]()
    best: dict[str, list[float]] = {start: [] for start in STARTS}
    for fold in folds_of(member, config):
        folder = fold.folder(config.out) / "finetune"
        parts = read_json(folder / "splits.json")["cases"]
        train |= {labelled.case(key).patient_key for key in parts["train"]}
        val |= {labelled.case(key).patient_key for key in parts["val"]}
        for start in STARTS:
            best[start].append(_best(folder, start))
    return {
        "train_patients": len(train),
        "val_patients": len(val),
        **{f"{start}_val": fmean(values) for start, values in best.items()},
    }


def _best(finetune: Path, start: str) -> float:
    """Return the score on validation that chose the weights; of a regression it is negative."""
    manifest = Manifest.read(finetune)
    summary = manifest.summary if manifest is not None else {}
    names = [name for name in summary if name.startswith(f"{start}_val_")]
    return float(summary[names[0]]) if names else float("nan")
