"""Fewer slices to pretrain on: AUROC on COVID-CT and time, for each selection of a CT slice set.

    python -m pipelines.redundancy_study ../shared/data --work runs/redundancy
    python -m pipelines.redundancy_study ../shared/data --work runs/redundancy --set seeds=[0]

After "Less is More" (Wolf et al. 2024, arXiv:2410.14524), which reports 0.78 -> 0.83 on COVID-CT
with pretraining up to nine times as fast. Every arm pretrains a 2D encoder (global contrast) on the
slices that one strategy keeps, for as many passes over them as every other arm, so fewer slices are
fewer steps; then the same classifier is fine-tuned from each encoder and from scratch, with the
same slices, order and steps. Two arms tell why: as many slices by chance, and all slices for as few
steps. All of it are runs of the stages: interrupted, the same command goes on.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final, Self

import pandas as pd
import pyarrow.compute
import torch
from pydantic import Field, model_validator
from rich.console import Console

from medssl.cli.run import user_errors_explained
from medssl.config.base import Config
from medssl.config.load import load, merge, read_tree, validate
from medssl.curation.curate import CurateConfig, curate
from medssl.curation.sampling_table import FILE, read_sampling_table
from medssl.curation.selection import selection_folder
from medssl.data.prepare import PrepareConfig, prepare
from medssl.evaluation.evaluate import EvaluateConfig, evaluate
from medssl.ingest.config import IngestConfig
from medssl.ingest.ingest import ingest
from medssl.labelled.read import read_labelled
from medssl.methods.base import Method
from medssl.runs.environment import describe
from medssl.runs.folder import write_json, write_text
from medssl.training.finetune import finetune
from medssl.training.finetune_config import FinetuneConfig
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.recorder import SPEED, read_metrics
from medssl.training.schedule import ScheduleConfig
from medssl.training.twins import VALIDATION
from pipelines.covid_ct_table import covid_ct_table
from pipelines.picture_shortcuts import shortcuts
from pipelines.redundancy_report import SCRATCH, sentence, show, show_shortcuts, summarise

SETTINGS: Final = Path(__file__).with_suffix(".yaml")
DOWNSTREAM: Final = Path(__file__).parents[1] / "configs" / "finetune" / "covid_ct.yaml"
QUIET: Final = {"tracking": {"enabled": False}}

Tree = dict[str, Any]
Positive = Annotated[int, Field(gt=0)]


class ArmConfig(Config):
    """One selection of the slices."""

    slices: Tree
    """The strategy, as in `medssl curate`."""
    as_long_as: str | None = None
    """Train for as many steps as this arm; null for `epochs` passes over its own slices."""


class StudyConfig(Config):
    """What is compared; the file beside this script holds the values."""

    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    """Of pretraining and fine-tuning; everything is drawn anew for each."""
    epochs: Positive
    """Passes over the slices that an arm keeps."""
    draws: Positive
    """Of seeds and patients, behind each interval."""
    ingest: Tree
    """Settings of `medssl ingest`; its sources lie below the data folder."""
    curate: Tree
    """Settings of `medssl curate` that all arms share."""
    prepare: Tree
    """Settings of `medssl prepare`."""
    arms: Annotated[dict[str, ArmConfig], Field(min_length=2)]
    """By name; the first one is what the others are compared with."""
    pretrain: Tree
    """Settings of `medssl pretrain`; `encoder` is also that of scratch."""
    finetune: Tree
    """What fine-tuning sets beyond configs/finetune/covid_ct.yaml."""

    @model_validator(mode="after")
    def _arms_fit(self) -> Self:
        strange = {arm.as_long_as for arm in self.arms.values()} - {None, *self.arms}
        if strange:
            raise ValueError(f"as_long_as names {sorted(map(str, strange))}, which is no arm")
        if SCRATCH in self.arms:
            raise ValueError(f"an arm cannot be called {SCRATCH}: that is the one without any")
        return self


class Study:
    """The runs of a study in one folder; what is there is not made again."""

    def __init__(self, config: StudyConfig, data: Path, work: Path) -> None:
        self.config, self.data, self.work = config, data, work
        self.library, self.table = work / "library", work / "covid_ct.csv"
        self.kept = dict[str, int]()

    def select(self) -> None:
        """Ingest the volumes; make the selection and the store of every arm, and the table."""
        tree = {**self.config.ingest, "library": self.library, "create_key": True, **QUIET}
        tree["key_file"] = self.work / "private" / "pseudonyms.key"
        tree["sources"] = [str(self.data / source) for source in tree["sources"]]
        ingest(validate(IngestConfig, tree, where=f"{SETTINGS} ingest"))
        for arm, of_arm in self.config.arms.items():
            tree = {**self.config.curate, "library": self.library, "name": arm, **QUIET}
            tree["slices"] = of_arm.slices
            curate(validate(CurateConfig, tree, where=f"{SETTINGS} arms.{arm}"))
            rows = read_sampling_table(selection_folder(self.library, arm) / FILE)
            self.kept[arm] = int(pyarrow.compute.sum(rows["kept"]).as_py())
            tree = {**self.config.prepare, "library": self.library, "selection": arm, **QUIET}
            tree["out"] = self.work / "stores" / arm
            prepare(validate(PrepareConfig, tree, where=f"{SETTINGS} prepare"))
        table = covid_ct_table(self.data / "covid-ct", self.work)
        write_text(self.table, table.to_csv(index=False))

    def pretrain(self, arm: str, seed: int) -> Tree:
        """Pretrain on the slices of an arm; returns its steps, and what they took."""
        out = self.work / "encoders" / f"{arm}-{seed}"
        tree = {**self.config.pretrain, "store": self.work / "stores" / arm, "out": out}
        config = validate(PretrainConfig, {**tree, "seed": seed, **QUIET}, where=str(SETTINGS))
        slices = self.config.epochs * self.kept[self.config.arms[arm].as_long_as or arm]
        method: Method = config.method.build(encoder=config.encoder.build())
        schedule = ScheduleConfig(samples=math.ceil(slices / method.views.parts))
        config = config.model_copy(update={"schedule": schedule})
        pretrain(config)
        steps = config.in_steps().schedule.steps
        step_s = median(row["speed/step_s"] for row in read_metrics(out / SPEED))
        return {"arm": arm, "seed": seed, "steps": steps, "seconds": steps * step_s}

    def score(self, arm: str, seed: int) -> pd.DataFrame:
        """Fine-tune from an arm's encoder, or from scratch; returns a row per image held aside."""
        folder = self.work / "finetune" / f"{arm}-{seed}"
        tree = {"dataset": self.table, "out": folder / "run", "seed": seed, **QUIET}
        tree |= (
            {"encoder_from": None, "encoder": self.config.pretrain["encoder"]}
            if arm == SCRATCH
            else {"encoder_from": self.work / "encoders" / f"{arm}-{seed}"}
        )
        tree["from_scratch_twin"] = False  # the same twin for every arm: it is trained once
        shared = read_tree(DOWNSTREAM, FinetuneConfig)
        tree = {**merge(shared, self.config.finetune, FinetuneConfig), **tree}
        config = validate(FinetuneConfig, tree, where=f"{SETTINGS} finetune")
        finetune(config)
        few = {"resamples": 100, "permutations": 100}  # the intervals are made over seeds, below
        evaluate(EvaluateConfig(finetune=folder / "run", out=folder / "test", **few, **QUIET))
        history = json.loads((folder / "run" / config.members[0] / VALIDATION).read_text())
        known = [row["val/auroc"] for row in history if row["val/auroc"] is not None]
        best = max(known, default=float("nan"))
        cases = pd.read_csv(folder / "test" / "cases.csv")
        return cases.assign(arm=arm, seed=seed, val_auroc=best)

    def run(self) -> Tree:
        """Run what is missing; returns all numbers."""
        self.select()
        timed, scored = list[Tree](), list[pd.DataFrame]()
        for seed in self.config.seeds:
            scored.append(self.score(SCRATCH, seed))
            for arm in self.config.arms:
                timed.append(self.pretrain(arm, seed))
                scored.append(self.score(arm, seed))
        splits = self.work / "finetune" / f"{SCRATCH}-{self.config.seeds[0]}" / "run/splits.json"
        parts = json.loads(splits.read_text())["cases"]
        return {
            "rows": summarise(pd.concat(scored), pd.DataFrame(timed), self.kept, self.config.draws),
            "shortcuts": shortcuts(read_labelled(self.table), parts, "covid"),
        }


def main(arguments: Sequence[str]) -> None:
    """Run the study; print its tables, write its numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with volumes/, dicom-series/, covid-ct/")
    parser.add_argument("--work", type=Path, default=Path("runs/redundancy"))
    parser.add_argument("--config", type=Path, default=SETTINGS)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with user_errors_explained():
        config = load(StudyConfig, given.config, given.set)
        found = Study(config, given.data.resolve(), given.work.resolve()).run()
    console = Console(width=140)
    show(found["rows"], console)
    show_shortcuts(found["shortcuts"], console)
    console.print(sentence(found["rows"], found["shortcuts"]))
    settings = json.loads(config.model_dump_json())
    write_json(
        given.work / "redundancy.json", {"machine": describe(), "settings": settings, **found}
    )


if __name__ == "__main__":
    main(sys.argv[1:])
