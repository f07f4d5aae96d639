"""The evaluate stage: finetuned models on the cases held aside, with intervals."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from medssl.config.base import Config
from medssl.evaluation.intervals import Resampling
from medssl.evaluation.kinds import classification, regression, segmentation
from medssl.evaluation.kinds.base import JudgeConfig, Judgement, Trial
from medssl.evaluation.report import write_report
from medssl.evaluation.subject import Subject, read_subject
from medssl.evaluation.summary import corrected, verdict
from medssl.inference.predictor import Ensemble, Predictor, choose_device
from medssl.runs.folder import atomic_path, write_json
from medssl.runs.stage import StageResult, StageRun, open_stage
from medssl.runs.tracking import TrackingConfig
from medssl.tasks.base import Kind
from medssl.training.task_model import load_task_model

Json = dict[str, Any]
JUDGES: Final[Mapping[Kind, Callable[..., Judgement]]] = {
    "segmentation": segmentation.judge,
    "classification": classification.judge,
    "regression": regression.judge,
}
"""How each kind of task is judged."""


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
    resamples: Annotated[int, Field(ge=100)] = 5000
    """Bootstrap resamples behind each interval."""
    permutations: Annotated[int, Field(ge=100)] = 10000
    """Exchanges of the two models behind each p-value."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Share of intervals that would hold the true mean."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run; `auto` takes a GPU when there is one."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the resamples."""
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
        trial = Trial(subject.labelled, predictors_of(config, subject), subject.cases, subject.val)
        kind = next(iter(trial.predictors.values())).task.kind
        judgement = JUDGES[kind](trial, config.judge, config.how, config.out)
        metrics = summarise(config, subject, kind, judgement)
        write_json(config.out / "metrics.json", metrics)
        with atomic_path(config.out / "cases.csv") as partial:
            judgement.table.to_csv(partial, index=False)
        write_report(config.out, subject.labelled, metrics, judgement)
        return _finish(run, metrics, judgement)


def predictors_of(config: EvaluateConfig, subject: Subject) -> dict[str, Predictor]:
    """Return what answers, by the name of the model."""
    device = choose_device(config.device)
    return {
        member: _joined(
            [
                Predictor(
                    load_task_model(folder / member, trust_names=True), device, config.mirror_axes
                )
                for folder in config.finetune
            ]
        )
        for member in subject.members
    }


def _joined(predictors: list[Predictor]) -> Predictor:
    return predictors[0] if len(predictors) == 1 else Ensemble(predictors)


def summarise(config: EvaluateConfig, subject: Subject, kind: Kind, judgement: Judgement) -> Json:
    """Return what ``metrics.json`` holds."""
    metrics, headline = judgement.metrics, judgement.headline
    corrected(metrics["differences"], headline.column, judgement.answer)
    return {
        "kind": kind,
        "split": config.split,
        "cases": len(subject.cases),
        "patients": len({case.patient_key for case in subject.cases}),
        "confidence": config.confidence,
        "resamples": config.resamples,
        "permutations": config.permutations,
        "seed": config.seed,
        "headline": {"metric": headline.column, "answer": judgement.answer},
        **metrics,
        "notes": list(judgement.notes),
        "verdict": verdict(metrics, headline, config.confidence, judgement.answer),
    }


def _finish(run: StageRun, metrics: Json, judgement: Judgement) -> StageResult:
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
    figures = {name.removesuffix(".png"): name for name in judgement.figures.values()}
    look_at = {
        "report": "report.html",
        **figures,
        "numbers": "metrics.json",
        "cases": "cases.csv",
    }
    stays = ["report.html", "overlays.png"]
    return run.finish(summary=summary, look_at=look_at, stays=stays)
