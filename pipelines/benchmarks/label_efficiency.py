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
from typing import Annotated, Any, Final, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field
from rich.console import Console
from rich.table import Table

from medssl.cli.run import user_errors_explained
from medssl.config.base import Config
from medssl.config.load import load, validate
from medssl.curation.curate import CurateConfig, curate
from medssl.data.prepare import PrepareConfig, prepare
from medssl.evaluation.evaluate import EvaluateConfig, evaluate
from medssl.ingest.config import IngestConfig
from medssl.ingest.ingest import ingest
from medssl.runs.environment import describe
from medssl.runs.folder import atomic_path, write_json
from medssl.runs.workers import map_unordered
from medssl.training.finetune import finetune
from medssl.training.finetune_config import FinetuneConfig
from medssl.training.labelled import read_labelled
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.splits import LabelledSplitConfig, split_cases
from medssl.training.twins import VALIDATION

SETTINGS: Final = Path(__file__).with_suffix(".yaml")
SCRATCH: Final = "scratch"
TUNING: Final = "tuning"
DRAWS: Final = 5000
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
    tree = merged(study.pretrain, study.methods[method])
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
    tree = merged(merged(study.finetune, study.tuning.plans[arm.plan]), own)
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
    table = pd.read_csv(result.folder / "cases.csv")[["patient_key", "class", "dice"]]
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


def merged(base: Tree, own: Tree) -> Tree:
    """Return ``base`` with what ``own`` sets, section by section."""
    both = dict(base)
    for key, value in own.items():
        nested = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = merged(both[key], value) if nested and "name" not in value else value
    return both


def dice_of(rows: pd.DataFrame, method: str) -> NDArray[np.float64]:
    """Return mean Dice over classes as ``(seeds, patients)`` of one method's rows."""
    mine = rows[rows["method"] == method]
    table = mine.pivot_table(index="seed", columns="patient_key", values="dice", aggfunc="mean")
    return np.asarray(table.sort_index().sort_index(axis=1), dtype=np.float64)


def interval(values_SP: NDArray[np.float64], draws: int = DRAWS) -> tuple[float, float, float]:
    """Return the mean and its 95 % percentile interval, seeds and patients drawn anew.

    Two-way bootstrap: rows (seeds) and columns (patients) are drawn with replacement, each
    independently (Owen 2007, "The pigeonhole bootstrap").
    """
    rng = np.random.default_rng(0)
    seeds, patients = values_SP.shape
    rows_DS = rng.integers(seeds, size=(draws, seeds))
    columns_DP = rng.integers(patients, size=(draws, patients))
    weights_DS = _counts(rows_DS, seeds) / seeds
    weights_DP = _counts(columns_DP, patients) / patients
    means_D = np.einsum("ds,sp,dp->d", weights_DS, values_SP, weights_DP, optimize=True)
    low, high = np.percentile(means_D, [2.5, 97.5])
    return float(values_SP.mean()), float(low), float(high)


def _counts(drawn_DN: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Return how often each of ``size`` items was drawn, per row."""
    offset = np.arange(len(drawn_DN))[:, None] * size
    counted = np.bincount((drawn_DN + offset).ravel(), minlength=len(drawn_DN) * size)
    return counted.reshape(len(drawn_DN), size).astype(np.float64)


def summarise(rows: pd.DataFrame, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Return, per budget, labels and method, Dice and its difference to scratch."""
    found = []
    for arm, group in rows.groupby(["budget", "labels"], sort=False):
        budget, labels = cast(tuple[str, int], arm)
        scratch_SP = dice_of(group, SCRATCH)
        scratch_high = interval(scratch_SP)[2]
        for method in (SCRATCH, *methods):
            values_SP = dice_of(group, method)
            mean, low, high = interval(values_SP)
            gain, gain_low, gain_high = interval(values_SP - scratch_SP)
            found.append(
                {
                    "budget": budget, "labels": labels, "method": method,
                    "dice": mean, "low": low, "high": high,
                    "by_seed": values_SP.mean(axis=1).round(4).tolist(),
                    "gain": gain, "gain_low": gain_low, "gain_high": gain_high,
                    "apart_from_scratch": low > scratch_high,
                }
            )  # fmt: skip
    return found


def show_trials(trials: pd.DataFrame, console: Console) -> None:
    """Print one line per start: the mean Dice of each plan, and which one it keeps."""
    best = best_plans(trials)
    means = trials.groupby(["method", "plan"], sort=False)["dice"].mean().unstack()
    table = Table(title="Dice on patients of the validation, for each plan of fine-tuning")
    for name in ("start", *means.columns, "keeps"):
        table.add_column(name)
    for method, row in means.iterrows():
        table.add_row(str(method), *(f"{value:.3f}" for value in row), best[str(method)])
    console.print(table)


def show(found: Sequence[dict[str, Any]], console: Console) -> None:
    """Print one line per arm."""
    table = Table(title="Dice on patients held aside")
    for name in ("budget", "labels", "start", "Dice", "95 %", "seeds", "gain", "95 %", "apart"):
        table.add_column(name)
    for row in found:
        scratch = row["method"] == SCRATCH
        table.add_row(
            row["budget"], str(row["labels"]), row["method"], f"{row['dice']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            " ".join(f"{value:.2f}" for value in row["by_seed"]),
            "" if scratch else f"{row['gain']:+.3f}",
            "" if scratch else f"{row['gain_low']:+.3f} to {row['gain_high']:+.3f}",
            "" if scratch else ("yes" if row["apart_from_scratch"] else "no"),
        )  # fmt: skip
    console.print(table)


def draw(path: Path, found: Sequence[dict[str, Any]]) -> None:
    """Write a figure: Dice over the number of labels, one panel per budget."""
    frame = pd.DataFrame(found)
    budgets = list(dict.fromkeys(frame["budget"]))
    figure = Figure(figsize=(5 * len(budgets), 4), layout="constrained")
    panels = figure.subplots(1, len(budgets), squeeze=False, sharey=True)[0]
    for axes, budget in zip(panels, budgets, strict=True):
        for method, rows in frame[frame["budget"] == budget].groupby("method", sort=False):
            style = "--" if method == SCRATCH else "-"
            line = axes.plot(rows["labels"], rows["dice"], style, marker="o", label=method)[0]
            axes.fill_between(
                rows["labels"], rows["low"], rows["high"], alpha=0.12, color=line.get_color()
            )
        axes.set(title=f"{budget} fine-tuning", xlabel="labelled patients", xscale="log")
        axes.set_xticks(sorted(set(frame["labels"])), sorted(set(frame["labels"])), minor=False)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("Dice, patients held aside")
    panels[-1].legend(frameon=False, fontsize=8)
    with atomic_path(path) as partial_path:
        figure.savefig(partial_path, dpi=120, format="png")


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


def best_plans(trials: pd.DataFrame) -> dict[str, str]:
    """Return, for each start, the plan of the highest mean Dice on patients of the validation."""
    means = trials.groupby(["method", "plan"], sort=False)["dice"].mean().unstack()
    return {str(method): str(plan) for method, plan in means.idxmax(axis=1).items()}


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
