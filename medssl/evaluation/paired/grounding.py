"""The grounding stage: where a model sees what words say, and whether it is there."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from medssl import __version__
from medssl.errors import ConfigError, RejectedFileError
from medssl.evaluation.intervals import mean_over_patients
from medssl.evaluation.page import inline, write_page
from medssl.evaluation.paired.figures import draw_heat
from medssl.evaluation.paired.grounding_metrics import (
    box_iou,
    contrast_to_noise,
    mean_iou,
    pointing_game,
)
from medssl.evaluation.paired.heat_map import heat_map, prepared
from medssl.evaluation.paired.options import IntervalOptions, ModelOptions
from medssl.evaluation.paired.studies import LeftOut
from medssl.evaluation.paired.subject import Subject
from medssl.inference.planes import planes_of
from medssl.inference.sources import digest_sources, find_sources, read_source
from medssl.io.nifti import write_nifti
from medssl.io.volume import Volume
from medssl.labelled.cases import LabelledSet, read_pair
from medssl.labelled.read import read_labelled
from medssl.runs.digest import digest_file
from medssl.runs.folder import atomic_path, write_json
from medssl.runs.manifest import now
from medssl.runs.progress import track
from medssl.runs.stage import StageResult, StageRun, open_stage

SCORES, TABLE, PAGE = "grounding.json", "grounding.csv", "grounding.html"
PICTURES, MAPS = "pictures", "maps"
Json = dict[str, Any]
HIT_IOU: Final = 0.5
MEASURED: Final = {
    "pointing": (0.0, 1.0),
    "contrast_to_noise": (-np.inf, np.inf),
    "mean_iou": (0.0, 1.0),
    "box_hit": (0.0, 1.0),
    "share": (0.0, 1.0),
}
"""What is measured of each case, and what it can be; ``share`` is that of the voxels which are in
the mask, and so what the pointing game gives by chance."""


class GroundingConfig(ModelOptions, IntervalOptions):
    """Everything ``medssl grounding`` reads."""

    phrases: Annotated[dict[str, str], Field(min_length=1)]
    """Name -> the words that are looked for. With `dataset` names are classes of its label maps."""
    dataset: Path | None = None
    """A labelled set with label maps, against which maps are measured."""
    inputs: tuple[Path, ...] = ()
    """Instead: NIfTI files, folders of them, or folders of DICOM files, whose maps are written."""
    modality: str = "CT"
    """What NIfTI files of `inputs` show: CT in Hounsfield units, or MR."""
    sigma_mm: Annotated[float, Field(ge=0)] = 0.0
    """Of the Gaussian that smooths maps."""
    shown: Annotated[int, Field(ge=0)] = 12
    """Maps that the page shows."""
    out: Path
    """Folder for the results."""

    @model_validator(mode="after")
    def _one_kind_of_data(self) -> Self:
        if (self.dataset is None) == (not self.inputs):
            raise ValueError("give either dataset or inputs")
        return self


class _Case(NamedTuple):
    """A volume as the model sees it, and what is in it."""

    key: str
    patient_key: str
    image_IJK: NDArray[np.float32]
    affine_ras: NDArray[np.float64]
    masks: Mapping[str, NDArray[np.bool_]]
    """Of the phrases whose class it shows."""


@dataclass
class _Grounded:
    """What came of all volumes."""

    rows: list[Json] = field(default_factory=list)
    """Measurements, one per volume and phrase."""
    pictures: list[Json] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def grounding(config: GroundingConfig, *, overwrite: bool = False) -> StageResult:
    """Make a map of cosines for every phrase and volume, and measure it where there is a mask.

    Leaves ``grounding.html`` with pictures of patients and ``grounding.json``; of a labelled set
    ``grounding.csv``, of scans ``maps/<number>_<phrase>.nii.gz`` on the model's grid.

    Raises:
        InputError: The model or the data cannot be read.
        ConfigError: A phrase is of no class of the set.
        FolderError: ``config.out`` holds something else, and ``overwrite`` is off.
    """
    inputs = {"model": config.model_digest}
    labelled = read_labelled(config.dataset) if config.dataset else None
    if labelled is not None:
        inputs["dataset"] = labelled.digest
        _check_classes(config, labelled)
    else:
        inputs["scans"] = digest_sources(find_sources(config.inputs))
    with open_stage(
        "grounding",
        config.out,
        config,
        inputs=inputs,
        tracking=config.tracking,
        overwrite=overwrite,
    ) as run:
        if run.previous:
            return run.previous
        return _leave(run, config, labelled, _ground(config, config.subject(), labelled))


def _ground(config: GroundingConfig, subject: Subject, labelled: LabelledSet | None) -> _Grounded:
    names = list(config.phrases)
    words_PD = subject.embed_words([config.phrases[name] for name in names])
    done = _Grounded()
    for case in _of_set(subject, labelled, names) if labelled else _of_scans(subject, config):
        if isinstance(case, LeftOut):
            done.left_out.append(case)
            continue
        for number, (name, words_D) in enumerate(zip(names, words_PD, strict=True), start=1):
            mask = case.masks.get(name)
            if labelled is not None and mask is None:
                continue
            heat_IJK = heat_map(subject, case.image_IJK, words_D, sigma_mm=config.sigma_mm)
            if mask is not None:
                done.rows.append(_measured(case, name, heat_IJK, mask))
            else:
                file = config.out / MAPS / f"{case.key}_{number:02d}.nii.gz"
                write_nifti(heat_IJK, case.affine_ras, file)
            if len(done.pictures) < config.shown:
                file = config.out / PICTURES / f"{len(done.pictures):03d}.png"
                _draw(file, case, heat_IJK, mask)
                about = {"case": case.key, "name": name, "words": config.phrases[name]}
                done.pictures.append({**about, **inline(file)})
    return done


def _leave(
    run: StageRun, config: GroundingConfig, labelled: LabelledSet | None, done: _Grounded
) -> StageResult:
    report = _report(config, done)
    write_json(config.out / SCORES, report)
    look_at = {"page": PAGE, "numbers": SCORES}
    if labelled is None:
        look_at["maps"] = MAPS
    else:
        look_at["table"] = TABLE
        with atomic_path(config.out / TABLE) as partial:
            pd.DataFrame(done.rows).to_csv(partial, index=False)
    write_page(
        config.out / PAGE,
        "paired/grounding.html",
        report=report,
        pictures=done.pictures,
        version=__version__,
        date=now()[:10],
    )
    digests = {"scores": digest_file(config.out / SCORES)}
    summary: dict[str, str | int | float | bool] = {"left_out": len(done.left_out)}
    summary |= {name: round(found["mean"], 4) for name, found in report["mean"].items()}
    return run.finish(summary=summary, look_at=look_at, stays=[PAGE, MAPS], outputs=digests)


def _check_classes(config: GroundingConfig, labelled: LabelledSet) -> None:
    if not labelled.labels:
        raise ConfigError(
            f"{config.dataset}: the set has no label maps to measure against",
            hint="give scans as `inputs`, to see maps without measuring them",
        )
    unknown = sorted(set(config.phrases) - set(labelled.labels[1:]))
    if unknown:
        raise ConfigError(
            f"phrases for {', '.join(unknown)}, which the label maps do not show",
            hint=f"classes are {', '.join(labelled.labels[1:])}",
        )


def _of_set(subject: Subject, labelled: LabelledSet, names: list[str]) -> Iterator[_Case | LeftOut]:
    """Yield the cases of a set; of one that cannot be read, why."""
    number = {name: labelled.labels.index(name) for name in names}
    for case in track(labelled.cases, "ground phrases"):
        if not set(number.values()) & set(case.classes):
            continue
        try:
            volume, label_IJK = read_pair(case, labelled.modality)
        except RejectedFileError as error:
            yield LeftOut(case.case_key, str(error))
            continue
        image_IJK, seen_IJK, affine_ras = prepared(subject, volume, label_IJK)
        masks = {name: np.asarray(seen_IJK == n, np.bool_) for name, n in number.items()}
        there = {name: mask for name, mask in masks.items() if np.any(mask)}
        yield _Case(case.case_key, case.patient_key, image_IJK, affine_ras, there)


def _of_scans(subject: Subject, config: GroundingConfig) -> Iterator[_Case | LeftOut]:
    """Yield the volumes of files; of a file that cannot be read, why."""
    for source in track(find_sources(config.inputs), "ground phrases"):
        try:
            volumes: list[Volume] = read_source(source, config.modality)
        except RejectedFileError as error:
            yield LeftOut(f"{source.number:04d}", str(error))
            continue
        for position, volume in enumerate(volumes, start=1):
            image_IJK, _, affine_ras = prepared(subject, volume)
            key = f"{source.number:04d}-{position}"
            yield _Case(key, key, image_IJK, affine_ras, {})


def _measured(
    case: _Case, name: str, heat_IJK: NDArray[np.float32], mask: NDArray[np.bool_]
) -> Json:
    return {
        "case_key": case.key,
        "patient_key": case.patient_key,
        "name": name,
        "pointing": pointing_game(heat_IJK, mask),
        "contrast_to_noise": contrast_to_noise(heat_IJK, mask),
        "mean_iou": mean_iou(heat_IJK, mask),
        "box_hit": float(box_iou(heat_IJK, mask) >= HIT_IOU),
        "share": float(mask.mean()),
    }


def _report(config: GroundingConfig, done: _Grounded) -> Json:
    def means(some: list[Json]) -> Json:
        return {
            metric: asdict(
                mean_over_patients(
                    [row[metric] for row in some],
                    [row["patient_key"] for row in some],
                    resamples=config.resamples,
                    confidence=config.confidence,
                    seed=config.seed,
                    bounds=bounds,
                )
            )
            for metric, bounds in MEASURED.items()
        }

    by_name = {name: [row for row in done.rows if row["name"] == name] for name in config.phrases}
    return {
        "left_out": [row._asdict() for row in done.left_out],
        "confidence": config.confidence,
        "phrases": dict(config.phrases),
        "mean": means(done.rows) if done.rows else {},
        "names": {name: means(some) for name, some in by_name.items() if some},
    }


def _draw(
    path: Path, case: _Case, heat_IJK: NDArray[np.float32], mask: NDArray[np.bool_] | None
) -> None:
    """Draw the planes through the middle of the mask, or where the map is highest."""
    where = heat_IJK == heat_IJK.max() if mask is None else mask
    centre = [int(np.median(axis)) for axis in np.nonzero(where)]
    planes = planes_of(case.image_IJK.shape)
    draw_heat(
        path,
        [plane.cut(case.image_IJK, centre[plane.axis]) for plane in planes],
        [plane.cut(heat_IJK, centre[plane.axis]) for plane in planes],
        None if mask is None else [plane.cut(mask, centre[plane.axis]) for plane in planes],
    )
