"""What pretraining is worth when labels are few: Dice beside the same network from scratch.

    python -m pipelines.benchmarks.label_efficiency ../shared/data --work runs/label_efficiency
    python -m pipelines.benchmarks.label_efficiency ../shared/data --work W --set seeds=[0]

Every method pretrains on the unlabelled volumes and on the images of the labelled set, without
its labels and without the patients held aside. Then the same network is fine-tuned on few labels
from each encoder and from scratch: the same patients, patches, order and steps, for a short budget
and for a long one. A learning rate that suits one start spoils another, so every start, scratch
too, first tries the same plans on the seeds of the tuning, and keeps the one with the best Dice on
the patients of the validation. Then, seed by seed, everything is drawn anew: first weights,
pretraining, which patients are labelled, order of the patches; the patients held aside stay the
same. Intervals resample seeds and patients. All of it are runs of the stages: interrupted, the same
command goes on, and another method or seed adds to what is there.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, Self

import pandas as pd
import torch
from pydantic import Field, model_validator
from rich.console import Console

from medssl.cli.run import user_errors_explained
from medssl.config.base import Config
from medssl.config.load import load, merge, validate
from medssl.curation.curate import CurateConfig, curate
from medssl.data.prepare import PrepareConfig, prepare
from medssl.evaluation.evaluate import EvaluateConfig, evaluate
from medssl.ingest.config import IngestConfig
from medssl.ingest.ingest import ingest
from medssl.labelled.read import read_labelled
from medssl.labelled.splits import LabelledSplitConfig, split_cases
from medssl.runs.environment import describe
from medssl.runs.folder import write_json
from medssl.runs.workers import map_unordered
from medssl.training.finetune import finetune
from medssl.training.finetune_config import FinetuneConfig
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.twins import VALIDATION
from pipelines.benchmarks.label_efficiency_report import (
    SCRATCH,
    best_plans,
    draw,
    show,
    show_trials,
    summarise,
)

SETTINGS: Final = Path(__file__).with_suffix(".yaml")
TUNING: Final = "tuning"
QUIET: Final = {"tracking": {"enabled": False}}

Tree = dict[str, Any]
Positive = Annotated[int, Field(gt=0)]


class TuningConfig(Config):
    """How each start finds the plan that suits it."""

    plans: dict[str, Tree]
    """Settings of `medssl finetune`, by the name of the plan."""
    labels: Positive
    """Labelled patients that train."""
    steps: Positive
    """Fine-tuning steps."""
    seeds: tuple[int, ...]
    """Other than those of the comparison; all of them begin with the encoders of its first one."""


class StudyConfig(Config):
    """What is compared; the file beside this script holds the values."""

    labels: tuple[Positive, ...]
    """How many labelled patients train."""
    seeds: tuple[int, ...]
    """Everything is drawn anew for each."""
    budgets: dict[str, Positive]
    """Fine-tuning steps, by the name of the budget."""
    splits: LabelledSplitConfig
    """Which patients of the labelled set are held aside."""
    curate: Tree
    """Settings of `medssl curate`."""
    prepare: Tree
    """Settings of `medssl prepare`."""
    pretrain: Tree
    """Settings of `medssl pretrain` that all methods share; `encoder` is also that of scratch."""
    methods: dict[str, Tree]
    """What each method sets beyond them."""
    finetune: Tree
    """Settings of `medssl finetune` that all plans share."""
    tuning: TuningConfig
    """The plans, and how they are tried."""

    @model_validator(mode="after")
    def _tuned_apart(self) -> Self:
        both = sorted({*self.seeds} & {*self.tuning.seeds})
        if both:
            raise ValueError(
                f"tuning.seeds and seeds share {both}: what chose the plan must not be compared, "
                "so give the tuning seeds of its own"
            )
        return self


class Arm(NamedTuple):
    """One fine-tuning: from which start, by which plan, on how many labels, for how long."""

    method: str
    plan: str
    labels: int
    budget: str
    steps: int
    seed: int
    encoder_seed: int

    def folder(self, work: Path) -> Path:
        """Return where its runs lie."""
        name = f"{self.method}-{self.seed}"
        return work / self.budget / f"{self.labels}-labels" / self.plan / name


def make_store(study: StudyConfig, data: Path, work: Path) -> Path:
    """Return the store of everything that may be pretrained on, made if it is not there."""
    labelled = read_labelled(dataset_of(data))
    held_aside = split_cases(labelled.cases, study.splits)["test"]
    names = [labelled.case(key).image.name for key in held_aside]
    folders = sorted({str(case.image.parent) for case in labelled.cases})
    library, store = work / "library", work / "store"
    ingest(
        IngestConfig(
            sources=(str(data / "volumes"), *folders),
            library=library,
            key_file=work / "private" / "pseudonyms.key",
            create_key=True,
            modalities={"ct/*": "CT", "*_ct_*": "CT", "*": "MR"},
            exclude=tuple(f"*{name}" for name in names),
            **QUIET,
        )
    )
    tree = {**study.curate, "library": library, "name": "main", **QUIET}
    curate(validate(CurateConfig, tree, where=str(SETTINGS)))
    tree = {**study.prepare, "library": library, "selection": "main", "out": store, **QUIET}
    prepare(validate(PrepareConfig, tree, where=str(SETTINGS)))
    return store


def dataset_of(data: Path) -> Path:
    """Return the description of the labelled set."""
    return data / "segmentation" / "hippocampus" / "dataset.json"


def pretrain_one(job: tuple[str, int], *, study: StudyConfig, work: Path) -> None:
    """Pretrain one method with one seed."""
    method, seed = job
    torch.set_num_threads(1)
    tree = merge(study.pretrain, study.methods[method], PretrainConfig)
    tree |= {"store": work / "store", "out": encoder_of(work, method, seed), "seed": seed, **QUIET}
    pretrain(validate(PretrainConfig, tree, where=f"{SETTINGS} methods.{method}"))


def encoder_of(work: Path, method: str, seed: int) -> Path:
    """Return the folder of a pretraining."""
    return work / "encoders" / f"{method}-{seed}"


def finetune_one(arm: Arm, *, study: StudyConfig, data: Path, work: Path) -> float:
    """Fine-tune one arm; returns the Dice on patients of the validation that chose its weights."""
    torch.set_num_threads(1)
    start: Tree = (
        {"encoder": study.pretrain["encoder"]}
        if arm.method == SCRATCH
        else {
            "encoder_from": encoder_of(work, arm.method, arm.encoder_seed),
            "from_scratch_twin": False,
        }
    )
    few = {**study.splits.model_dump(), "train_patients": arm.labels, "train_seed": arm.seed}
    own: Tree = {
        "dataset": dataset_of(data),
        "out": arm.folder(work) / "finetune",
        "splits": few,
        "schedule": {"steps": arm.steps, "warmup_steps": max(1, arm.steps // 10)},
        "seed": arm.seed,
    }
    tree = merge(study.finetune, study.tuning.plans[arm.plan], FinetuneConfig)
    tree = merge(tree, own, FinetuneConfig)
    config = validate(FinetuneConfig, {**tree, **start, **QUIET}, where="")
    finetune(config)
    history = json.loads((config.out / config.members[0] / VALIDATION).read_text())
    return max(float(row["val/dice"]) for row in history)


def score_one(arm: Arm, *, study: StudyConfig, data: Path, work: Path) -> pd.DataFrame:
    """Fine-tune and score one arm; returns its Dice per patient held aside and class."""
    finetune_one(arm, study=study, data=data, work=work)
    folder = arm.folder(work)
    result = evaluate(
        EvaluateConfig(finetune=folder / "finetune", out=folder / "evaluate", **QUIET)
    )
    table = pd.read_csv(result.folder / "cases.csv")[["patient_key", "answer", "dice"]]
    return table.assign(**arm._asdict())


def tune(study: StudyConfig, data: Path, work: Path, workers: int) -> pd.DataFrame:
    """Try every plan from every start; returns validation Dice, a row per trial."""
    tuning = study.tuning
    trials = [
        Arm(method, plan, tuning.labels, TUNING, tuning.steps, seed, study.seeds[0])
        for method in (SCRATCH, *study.methods)
        for plan in tuning.plans
        for seed in tuning.seeds
    ]
    tried = partial(_tried, study=study, data=data, work=work)
    rows = sorted(map_unordered(tried, trials, workers=workers))
    return pd.DataFrame(rows, columns=["method", "plan", "seed", "dice"])


def _tried(arm: Arm, *, study: StudyConfig, data: Path, work: Path) -> tuple[str, str, int, float]:
    dice = finetune_one(arm, study=study, data=data, work=work)
    return arm.method, arm.plan, arm.seed, dice


def run(
    study: StudyConfig, data: Path, work: Path, workers: int
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Run what is missing of the study; returns its table, and the trials of the plans."""
    make_store(study, data, work)
    encoders = list(itertools.product(study.methods, study.seeds))
    for _ in map_unordered(
        partial(pretrain_one, study=study, work=work), encoders, workers=workers
    ):
        pass
    trials = tune(study, data, work, workers)
    plans = best_plans(trials)
    arms = [
        Arm(method, plans[method], labels, budget, steps, seed, seed)
        for budget, steps in study.budgets.items()
        for seed in study.seeds
        for labels in study.labels
        for method in (SCRATCH, *study.methods)
    ]
    score = partial(score_one, study=study, data=data, work=work)
    rows = pd.concat(list(map_unordered(score, arms, workers=workers)))
    return summarise(rows.sort_values(["steps", "labels", "seed"]), list(study.methods)), trials


def main(arguments: Sequence[str]) -> None:
    """Run the study; print its table, write its figure and its numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "data", type=Path, help="folder with volumes/ and segmentation/hippocampus/"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/label_efficiency"))
    parser.add_argument("--config", type=Path, default=SETTINGS)
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one per core")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings")
    given = parser.parse_args(arguments)
    with user_errors_explained():
        study = load(StudyConfig, given.config, given.set)
        found, trials = run(study, given.data.resolve(), given.work.resolve(), given.workers)
    console = Console(width=140)
    show_trials(trials, console)
    show(found, console)
    draw(given.work / "label_efficiency.png", found)
    write_json(
        given.work / "label_efficiency.json",
        {
            "machine": describe(),
            "settings": json.loads(study.model_dump_json()),
            "tuning": trials.to_dict("records"),
            "plans": best_plans(trials),
            "rows": found,
        },
    )


if __name__ == "__main__":
    main(sys.argv[1:])
