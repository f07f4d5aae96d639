"""The probe stage: what encoders know without fine-tuning, each beside one that never learned."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from medssl.config.base import Config
from medssl.data.normalize import IntensityConfig
from medssl.errors import ConfigError, InputError
from medssl.evaluation.frozen.cka import FEWEST_ROWS, cka_matrix
from medssl.evaluation.frozen.copies import read_copies
from medssl.evaluation.frozen.embed import Rows, check_patch, column, level_names
from medssl.evaluation.frozen.figures import draw_matrix, draw_scores
from medssl.evaluation.frozen.look import Look, embedded
from medssl.evaluation.frozen.measure import Questions, measure
from medssl.evaluation.frozen.options import CkaOptions, ScoreOptions
from medssl.evaluation.frozen.results import Result
from medssl.evaluation.frozen.source import Source, open_source
from medssl.evaluation.frozen.subjects import (
    CHECKPOINT,
    RANDOM,
    Subject,
    digests,
    load_subjects,
)
from medssl.evaluation.frozen.targets import known_rows, read_targets
from medssl.evaluation.intervals import Estimate, Resampling
from medssl.inference.predictor import choose_device
from medssl.labelled.cases import LabelledCase
from medssl.labelled.splits import LabelledSplitConfig, split_cases
from medssl.runs.digest import digest_file
from medssl.runs.folder import atomic_path, write_json
from medssl.runs.stage import StageResult, StageRun, open_stage
from medssl.runs.tracking import TrackingConfig

Positive = Annotated[int, Field(gt=0)]
Spacing = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
EMBEDDINGS = "embeddings"
_VALUES = ("mean", "low", "high")
Scores = Mapping[str, Mapping[str, Result]]


class ProbeStageConfig(Config):
    """Everything ``medssl probe`` reads."""

    encoders: Annotated[dict[Name, Path], Field(min_length=1)]
    """Name -> folder of a finished pretraining or an exported encoder, or a checkpoint of a
    pretraining, `RUN/checkpoints/step-00001000.ckpt`. A path alone is named as its folder is."""
    dataset: Path
    """A labelled set, or a crop store."""
    table: Path | None = None
    """Of a crop store: CSV with the column `volume_key` and others."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    """What is asked for: one column of classes, or several that hold 0 and 1 each. A set of label
    maps has a column for each of its classes: whether it is there."""
    out: Path
    """Folder for the results."""
    spacing_mm: tuple[Spacing, Spacing, Spacing] | None = None
    """Voxel size of what the encoders see; null: what each was trained with."""
    intensity: IntensityConfig | None = None
    """Scale of what they see; null: what each was trained with."""
    patch_voxels: tuple[Positive, Positive, Positive] = (96, 96, 96)
    """Size of the patches that cover a volume; its embedding is their mean."""
    most_patches: Positive = 4
    """Patches along each axis of a volume, at most."""
    duplicates: Path | None = None
    """Parquet or CSV of `volume_key` and `group_key`: cases of one group never see each other."""
    splits: LabelledSplitConfig = LabelledSplitConfig()
    """Which patients are learned from, which choose how, and which are scored."""
    scores: ScoreOptions = ScoreOptions()
    """Which scores."""
    resamples: Annotated[int, Field(ge=100)] = 2000
    """Bootstrap resamples behind each interval."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Share of intervals that would hold the true value."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the encoders run; `auto` takes a GPU when there is one."""
    trust_encoders: bool = False
    """Allow a folder to name an encoder outside medssl, which is then imported: only where you
    know who wrote it."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the random twins, the crops, the shots and the resamples. With the seed of a
    pretraining, the twin is the encoder as that began."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""

    @field_validator("encoders", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, str | Path):
            return value
        path = Path(value)
        return {path.stem if path.suffix == CHECKPOINT else path.name: value}

    @field_validator("encoders")
    @classmethod
    def _leave_names_to_twins(cls, encoders: dict[str, Path]) -> dict[str, Path]:
        taken = [name for name in encoders if name.startswith(f"{RANDOM}_")]
        if taken:
            raise ValueError(f"{taken[0]}: names that begin with {RANDOM}_ are those of the twins")
        return encoders

    @property
    def fed(self) -> dict[str, Any]:
        """How the encoders are fed, where that is not as they were trained."""
        tree = self.model_dump(mode="json", include={"spacing_mm", "intensity"})
        return {key: value for key, value in tree.items() if value is not None}


def probe(config: ProbeStageConfig, *, overwrite: bool = False) -> StageResult:
    """Score frozen encoders on a labelled set, each beside a random one of its architecture.

    Leaves ``scores.json``, ``scores.csv``, ``scores.png``, ``cka.png`` and
    ``embeddings/<encoder>.parquet``. Interrupted, it embeds no encoder twice.

    Raises:
        InputError: An encoder, the set or a table cannot be read, or does not hold what is asked
            for.
        ConfigError: There are too few patients, or patches do not fit an encoder.
        FolderError: ``config.out`` holds something else, and ``overwrite`` is off.
    """
    source = open_source(config.dataset, config.table)
    inputs = {"dataset": source.digest, **digests(config.encoders)}
    if config.duplicates is not None and config.duplicates.is_file():
        inputs["duplicates"] = digest_file(config.duplicates)
    cases, questions = _ask(config, source)
    subjects = load_subjects(
        config.encoders, config.fed, trust_names=config.trust_encoders, seed=config.seed
    )
    for subject in subjects:
        check_patch(subject.encoder, config.patch_voxels)
    with open_stage(
        "probe",
        config.out,
        config,
        inputs=inputs,
        tracking=config.tracking,
        overwrite=overwrite,
    ) as run:
        if run.previous:
            return run.previous
        rows = {s.name: embedded(s, source, cases, _look(config, run.resumed)) for s in subjects}
        found = {name: measure(of_one, questions, config.scores) for name, of_one in rows.items()}
        report = {
            **_about(questions, left_out=len(source.cases) - len(cases)),
            "confidence": config.confidence,
            "resamples": config.resamples,
            "encoders": {s.name: _of_encoder(s, found, config) for s in subjects},
            "cka": _likeness(config, rows),
        }
        return _leave(run, config, report)


def _ask(config: ProbeStageConfig, source: Source) -> tuple[list[LabelledCase], Questions]:
    """Return the cases of which something is known, and what they are asked."""
    known = known_rows(source.values, config.targets)
    cases = [source.cases[n] for n in known]
    targets = read_targets([source.values[n] for n in known] or source.values, config.targets)
    split = split_cases(cases, config.splits, folds=source.folds)
    place = {case.case_key: n for n, case in enumerate(cases)}
    parts = {part: np.array([place[key] for key in keys], np.int64) for part, keys in split.items()}
    empty = [part for part, rows in parts.items() if not len(rows)]
    if empty:
        raise ConfigError(
            f"no case is left for {' and '.join(empty)}",
            hint="a probe needs patients to learn from, to choose by and to score: set "
            "splits.test above 0, or splits.declared to false",
        )
    unseen = int((~(targets.y_NC[parts["train"]] == 1).any(axis=0)).sum())
    if unseen:
        raise InputError(
            f"{unseen} of {len(targets.names)} classes have no case among the training patients",
            hint="label more patients, leave rare classes empty, or set another splits.seed",
        )
    return cases, Questions(
        targets=targets,
        patients=tuple(case.patient_key for case in cases),
        copies=read_copies(config.duplicates, [case.case_key for case in cases]),
        parts=parts,
        seed=config.seed,
    )


def _look(config: ProbeStageConfig, resumed: bool) -> Look:
    return Look(
        folder=config.out / EMBEDDINGS,
        patch_voxels=config.patch_voxels,
        most_patches=config.most_patches,
        spread=config.scores.views.spread if config.scores.views else None,
        device=choose_device(config.device),
        seed=config.seed,
        resumed=resumed,
    )


def _about(questions: Questions, *, left_out: int) -> dict[str, Any]:
    targets = questions.targets
    known = {
        name: {"yes": int((y == 1).sum()), "no": int((y == 0).sum())}
        for name, y in zip(targets.names, targets.y_NC.T, strict=True)
    }
    return {
        "cases": len(questions.patients),
        "patients": len(set(questions.patients)),
        "left_out": left_out,
        "parts": {
            part: {"cases": len(rows), "patients": len(set(questions.patients_of(part)))}
            for part, rows in questions.parts.items()
        },
        "one_of_several": targets.exclusive,
        "targets": known,
        "majority": _majority(questions) if targets.exclusive else None,
    }


def _majority(questions: Questions) -> float:
    """Return the accuracy of always giving the training patients' most frequent class."""
    learned, asked = (
        questions.targets.take(questions.parts[p]).labels() for p in ("train", "test")
    )
    return float(np.mean(asked == np.bincount(learned).argmax()))


def _of_encoder(subject: Subject, found: Scores, config: ProbeStageConfig) -> dict[str, Any]:
    how = Resampling(resamples=config.resamples, confidence=config.confidence, seed=config.seed)
    scores = {}
    for name, result in found[subject.name].items():
        scores[name] = {**asdict(result.estimate(how)), "difference": None}
        if subject.twin is not None and name != "linear_l2":
            difference = result.difference(found[subject.twin][name], how)
            scores[name]["difference"] = asdict(difference)
    return {
        "random_twin": subject.twin,
        "spacing_mm": list(subject.grid.spacing_mm),
        "intensity": subject.grid.intensity.model_dump(mode="json"),
        "embed_dim": subject.encoder.embed_dim,
        "scores": scores,
    }


def _likeness(config: ProbeStageConfig, rows: Mapping[str, Rows]) -> dict[str, Any] | None:
    """Return CKA of every level of every encoder with every other, and draw it."""
    options: CkaOptions | None = config.scores.cka
    if options is None or len(next(iter(rows.values()))) < FEWEST_ROWS:
        return None
    described = {
        f"{name} {level.replace('_', ' ')}": column(of_one[: options.most_cases], level)
        for name, of_one in rows.items()
        for level in level_names(of_one)
    }
    matrix_AA = cka_matrix(list(described.values()), debiased=options.debiased)
    draw_matrix(config.out / "cka.png", matrix_AA, list(described))
    return {"rows": list(described), "matrix": matrix_AA, **options.model_dump()}


def _leave(run: StageRun, config: ProbeStageConfig, report: dict[str, Any]) -> StageResult:
    encoders = report["encoders"]
    report["verdict"] = verdict(encoders, config.confidence)
    write_json(config.out / "scores.json", report)
    with atomic_path(config.out / "scores.csv") as partial:
        as_table(encoders).to_csv(partial, index=False)
    draw_scores(
        config.out / "scores.png",
        {name: _estimates(of_one["scores"]) for name, of_one in encoders.items()},
    )
    look_at = {"scores": "scores.png", "numbers": "scores.json", "table": "scores.csv"}
    if report["cka"]:
        look_at["likeness"] = "cka.png"
    files = {name: config.out / EMBEDDINGS / f"{name}.parquet" for name in encoders}
    summary: dict[str, Any] = {"cases": report["cases"], "patients": report["patients"]}
    for name, of_one in encoders.items():
        main = _main(of_one["scores"])
        if main is not None:
            metric = main.replace("@", "_at_")  # which MLflow has no room for
            summary[f"{name}_{metric}"] = round(of_one["scores"][main]["mean"], 4)
    summary["verdict"] = report["verdict"]
    return run.finish(
        summary=summary,
        look_at=look_at,
        outputs={name: digest_file(file) for name, file in files.items()},
    )


def _estimates(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Estimate]:
    return {
        name: Estimate(**{key: value for key, value in score.items() if key != "difference"})
        for name, score in scores.items()
    }


def as_table(encoders: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per encoder and score, with what it is more than its random twin has."""
    return pd.DataFrame(
        {
            "encoder": encoder,
            "score": name,
            "patients": score["patients"],
            **{key: score[key] for key in _VALUES},
            **{f"difference_{key}": (score["difference"] or {}).get(key) for key in _VALUES},
        }
        for encoder, of_one in encoders.items()
        for name, score in of_one["scores"].items()
    )


def _main(scores: Mapping[str, Any]) -> str | None:
    """Return the score that an encoder is first judged by: the linear probe's, if there is one."""
    wanted: Sequence[str] = (
        "linear_auroc",
        "linear_accuracy",
        "knn_",
        "few_shot_",
        "retrieval_map",
    )
    return next((name for start in wanted for name in scores if name.startswith(start)), None)


def verdict(encoders: Mapping[str, Mapping[str, Any]], confidence: float) -> str:
    """Return in one sentence an encoder whether it knows more than one that never learned."""
    told = []
    for name, of_one in encoders.items():
        main = _main(of_one["scores"])
        if of_one["random_twin"] is None or main is None:
            continue
        found = Estimate(**of_one["scores"][main]["difference"])
        by = f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f}, {confidence:.0%} interval)"
        if np.isnan(found.low):
            told.append(f"{name}: too few patients to compare it with its random twin.")
        elif found.includes(0.0):
            told.append(f"{name}: no difference from its random twin is shown, {main} {by}.")
        else:
            more = "more" if found.mean > 0 else "less"
            told.append(f"{name} knows {more} than its random twin: {main} {by}.")
    return " ".join(told) or "No score was asked for that labels decide."
