"""The evaluate stage: finetuned models on the cases held aside, with intervals."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from medssl.config.base import Config
from medssl.evaluation.groups import by_group
from medssl.evaluation.intervals import Resampling
from medssl.evaluation.kinds.base import Judge, JudgeConfig, Judgement, Picture, Trial
from medssl.evaluation.kinds.classification import ClassificationJudge
from medssl.evaluation.kinds.regression import RegressionJudge
from medssl.evaluation.kinds.segmentation import SegmentationJudge
from medssl.evaluation.report import write_report
from medssl.evaluation.robustness import (
    ROBUSTNESS,
    RobustnessConfig,
    measure_robustness,
    save_robustness,
)
from medssl.evaluation.subgroups import AT_LEAST
from medssl.evaluation.subject import Subject, read_subject
from medssl.evaluation.summary import corrected, verdict
from medssl.inference.predictor import Predictor, choose_device
from medssl.runs.folder import atomic_path, write_json
from medssl.runs.stage import StageResult, StageRun, open_stage
from medssl.runs.tracking import TrackingConfig
from medssl.tasks.base import Kind
from medssl.training.task_model import load_task_model

Json = dict[str, Any]
JUDGES: Final[Mapping[Kind, type[Judge]]] = {
    "segmentation": SegmentationJudge,
    "classification": ClassificationJudge,
    "regression": RegressionJudge,
}
"""How each kind of task is judged."""
_GROUP_DRAWS: Final = 2000
"""At most, of resamples and of shuffles: there are many groups."""


def _several(value: object) -> object:
    return (value,) if isinstance(value, str | Path) else value


class EvaluateConfig(Config):
    """Everything ``medssl evaluate`` reads."""

    finetune: Annotated[tuple[Path, ...], BeforeValidator(_several), Field(min_length=1)]
    """Folder of a finished finetuning; several that hold the same cases aside, such as folds,
    answer together as an ensemble."""
    out: Path
    """Folder for the results."""
    split: Literal["test", "val"] = "test"
    """Which cases; those of `val` chose the weights, so their score is too good."""
    mirror_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    """Axes along which every scan is also seen mirrored, and the answers averaged."""
    judge: JudgeConfig = JudgeConfig()
    """What scores are taken at."""
    least_group: Annotated[int, Field(ge=2)] = AT_LEAST
    """Patients that a subgroup and its others need, to be measured; smaller ones are listed."""
    robustness: RobustnessConfig | None = None
    """The headline also on scans made worse; null: not, as each severity predicts every case
    again."""
    resamples: Annotated[int, Field(ge=100)] = 5000
    """Bootstrap resamples behind each interval; behind those of subgroups 2000 at most."""
    permutations: Annotated[int, Field(ge=100)] = 10000
    """Exchanges of the two models behind each p-value; of subgroups 2000 at most."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Share of intervals that would hold the true mean."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run; `auto` takes a GPU when there is one."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the resamples, and what is drawn when scans are made worse."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""

    @property
    def how(self) -> Resampling:
        """How intervals and p-values are made."""
        return Resampling(
            resamples=self.resamples,
            permutations=self.permutations,
            confidence=self.confidence,
            seed=self.seed,
        )

    @property
    def how_of_groups(self) -> Resampling:
        """How those of subgroups are made."""
        return replace(
            self.how,
            resamples=min(self.resamples, _GROUP_DRAWS),
            permutations=min(self.permutations, _GROUP_DRAWS),
        )


def evaluate(config: EvaluateConfig, *, overwrite: bool = False) -> StageResult:
    """Score the models of a finetuning on cases they never saw, on the scans' own grids.

    Leaves ``metrics.json``, ``cases.csv``, ``report.html`` and its figures.

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
        judge = judge_of(config, subject)
        judgement = judge.judge(config.out)
        metrics = summarise(config, subject, judge, judgement)
        write_json(config.out / "metrics.json", metrics)
        with atomic_path(config.out / "cases.csv") as partial:
            judgement.table.to_csv(partial, index=False)
        pictures = [*_robustness_picture(config, metrics, judge), *judgement.pictures]
        write_report(config.out, subject.labelled, metrics, pictures)
        return _finish(run, metrics, pictures)


def judge_of(config: EvaluateConfig, subject: Subject) -> Judge:
    """Return what judges the models of a subject by their kind of task."""
    device = choose_device(config.device)
    members = {
        member: [
            Predictor(
                load_task_model(folder / member, trust_names=True), device, config.mirror_axes
            )
            for folder in config.finetune
        ]
        for member in subject.members
    }
    trial = Trial(subject.labelled, members, subject.cases, subject.val)
    kind = members[subject.members[0]][0].task.kind
    return JUDGES[kind](trial, config.judge, config.how)


def summarise(config: EvaluateConfig, subject: Subject, judge: Judge, judgement: Judgement) -> Json:
    """Return what ``metrics.json`` holds."""
    metrics, headline, table = judgement.metrics, judgement.headline, judgement.table
    corrected(metrics["differences"], headline.column, judgement.answer)
    robustness = list[Json]()
    if config.robustness is not None:
        robustness = measure_robustness(judge, table, config.robustness, seed=config.seed)
    return {
        "kind": judge.first.task.kind,
        "split": config.split,
        "cases": len(subject.cases),
        "patients": len({case.patient_key for case in subject.cases}),
        "confidence": config.confidence,
        "resamples": config.resamples,
        "permutations": config.permutations,
        "seed": config.seed,
        "mirror_axes": config.mirror_axes,
        "headline": {"metric": headline.column, "answer": judgement.answer},
        "shown": [metric._asdict() for metric in judgement.shown],
        **metrics,
        "subgroups": {
            "resamples": config.how_of_groups.resamples,
            **by_group(judge, table, config.least_group, config.how_of_groups),
        },
        "robustness": robustness,
        "provenance": subject.provenance,
        "notes": list(judgement.notes),
        "verdict": verdict(metrics, headline, config.confidence, judgement.answer),
    }


def _robustness_picture(config: EvaluateConfig, metrics: Json, judge: Judge) -> list[Picture]:
    rows = metrics["robustness"]
    if not rows:
        return []
    save_robustness(config.out / ROBUSTNESS, rows, judge.headline)
    caption = (
        f"The headline of every model over how much is wrong with the scans, 0 as they are; bands "
        f"are {config.confidence:.0%} intervals by patient. What is drawn is of seed {config.seed}."
    )
    return [Picture("Scans made worse", ROBUSTNESS, caption)]


def _finish(run: StageRun, metrics: Json, pictures: list[Picture]) -> StageResult:
    column, answer = metrics["headline"]["metric"], metrics["headline"]["answer"]
    summary: Json = {"cases": metrics["cases"], "patients": metrics["patients"]}
    for model, by_answer in metrics["scores"][column].items():
        for name, found in by_answer.items():
            key = f"{model}_{column}" if name == answer else f"{model}_{column}_{name}"
            summary[key] = round(found["value"], 4)
    difference = metrics["differences"].get(column, {}).get(answer)
    if difference is not None:
        summary["difference"] = round(difference["difference"], 4)
        summary["difference_low"] = round(difference["low"], 4)
        summary["difference_high"] = round(difference["high"], 4)
        summary["p_value"] = round(difference["p_value"], 4)
    summary["verdict"] = metrics["verdict"]
    files = [picture.file for picture in pictures]
    look_at = {
        "report": "report.html",
        **{file.removesuffix(".png"): file for file in files},
        "numbers": "metrics.json",
        "cases": "cases.csv",
    }
    stays = ["report.html", *(picture.file for picture in pictures if picture.shows_patients)]
    return run.finish(summary=summary, look_at=look_at, stays=stays)
