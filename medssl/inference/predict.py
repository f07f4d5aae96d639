"""The predict stage: a task model and scans in, masks on the scans' own grids or answers out."""

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medssl.config.base import Config
from medssl.errors import RejectedFileError
from medssl.inference.overlay import Panel, most_labelled_slice, save_grid
from medssl.inference.predictor import Predictor, choose_device, painted
from medssl.inference.sources import Source, digest_sources, find_sources, read_source
from medssl.io.nifti import write_nifti
from medssl.io.volume import Volume
from medssl.runs.folder import atomic_path
from medssl.runs.progress import track
from medssl.runs.stage import StageResult, StageRun, open_stage
from medssl.runs.tracking import TrackingConfig
from medssl.training.task_model import load_task_model

_MOST_IN_FIGURE = 8


class PredictConfig(Config):
    """Everything ``medssl predict`` reads."""

    model: Path
    """A MONAI bundle that `medssl export` wrote, or one model of a finetune run."""
    inputs: Annotated[tuple[Path, ...], Field(min_length=1)]
    """NIfTI files, folders of NIfTI files, and folders of DICOM files."""
    out: Path
    """Folder for the masks."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs; `auto` takes a GPU when there is one."""
    accept_other_modality: bool = False
    """Also predict DICOM of another modality than the model was trained on."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of ``predictions.csv``."""

    input: int
    """Number of the file or folder among those given, from 1."""
    outcome: Literal["predicted", "refused"]
    reason_code: str = ""
    reason: str = ""
    mask: str = ""
    overlay: str = ""
    shape: str = ""
    spacing_mm: str = ""
    volume_ml: str = ""
    answers: str = ""
    """Of tasks about whole volumes: probability of every class, or every number."""
    seconds: float = 0.0


def predict(config: PredictConfig, *, overwrite: bool = False) -> StageResult:
    """Predict every input; one that cannot be read becomes a row with the reason.

    Leaves ``predictions.csv``, and of a segmentation ``<name>_seg.nii.gz`` (uint8, shape and affine
    of the input; DICOM in the order column, row, slice) and ``overlays/<name>.png`` per volume.

    Raises:
        InputError: The model cannot be used.
        FolderError: ``config.out`` holds something else, and ``overwrite`` is off.
    """
    model = load_task_model(config.model)
    sources = find_sources(config.inputs)
    inputs = {"model": model.description.weights_digest, "scans": digest_sources(sources)}
    with open_stage(
        "predict",
        config.out,
        config,
        inputs=inputs,
        tracking=config.tracking,
        overwrite=overwrite,
    ) as run:
        if run.previous:
            return run.previous
        predictor = Predictor(model, choose_device(config.device))
        rows, panels = list[Row](), list[Panel]()
        for source in track(sources, "predict"):
            for row, panel in _predict_source(config, predictor, source):
                rows.append(row)
                panels += [panel] if panel and len(panels) < _MOST_IN_FIGURE else []
        return _finish(run, config, predictor, rows, panels)


def _predict_source(
    config: PredictConfig, predictor: Predictor, source: Source
) -> list[tuple[Row, Panel | None]]:
    try:
        volumes = read_source(source, predictor.description.modality)
    except RejectedFileError as error:
        return [(_refused(source, error), None)]
    done = list[tuple[Row, Panel | None]]()
    for position, volume in enumerate(volumes, start=1):
        name = source.stem if len(volumes) == 1 else f"{source.stem}_{position}"
        try:
            _check_modality(config, predictor, volume)
            done.append(_predict_volume(config.out, predictor, source, name, volume))
        except RejectedFileError as error:
            done.append((_refused(source, error), None))
    return done


def _check_modality(config: PredictConfig, predictor: Predictor, volume: Volume) -> None:
    trained = predictor.description.modality
    known = "unknown" not in (trained, volume.modality)
    if known and trained != volume.modality and not config.accept_other_modality:
        raise RejectedFileError(
            "other_modality",
            f"the scan is {volume.modality}, the model was trained on {trained}; set "
            "accept_other_modality to predict it all the same",
        )


def _predict_volume(
    out: Path, predictor: Predictor, source: Source, name: str, volume: Volume
) -> tuple[Row, Panel | None]:
    started = time.monotonic()
    seen = _row(source, volume)
    if predictor.task.kind != "segmentation":
        told = "; ".join(f"{name} {value:.4g}" for name, value in predictor.answers(volume).items())
        return replace(seen, answers=told, seconds=round(time.monotonic() - started, 2)), None
    masks_CIJK = predictor.masks(volume)
    mask_IJK = painted(masks_CIJK)
    write_nifti(mask_IJK, volume.affine_ras, out / f"{name}_seg.nii.gz")
    panel = Panel(
        title=f"input {source.number}",
        image_IJK=volume.array_IJK,
        mask_IJK=mask_IJK,
        affine_ras=volume.affine_ras,
        slice_k=most_labelled_slice(mask_IJK, volume.affine_ras),
    )
    overlay = f"overlays/{name}.png"
    save_grid(out / overlay, [[panel]], predictor.labels)
    row = replace(
        seen,
        mask=f"{name}_seg.nii.gz",
        overlay=overlay,
        volume_ml=_volumes_ml(masks_CIJK, volume, predictor.task.answers),
        seconds=round(time.monotonic() - started, 2),
    )
    return row, panel


def _row(source: Source, volume: Volume) -> Row:
    return Row(
        input=source.number,
        outcome="predicted",
        shape=" x ".join(map(str, volume.shape)),
        spacing_mm=" x ".join(f"{step:.3g}" for step in volume.spacing_mm),
    )


def _volumes_ml(masks_CIJK: NDArray[np.bool_], volume: Volume, names: Sequence[str]) -> str:
    voxel_ml = abs(float(np.linalg.det(volume.affine_ras[:3, :3]))) / 1000
    pairs = zip(names, masks_CIJK, strict=True)
    return "; ".join(f"{name} {np.count_nonzero(mask) * voxel_ml:.3f}" for name, mask in pairs)


def _refused(source: Source, error: RejectedFileError) -> Row:
    return Row(input=source.number, outcome="refused", reason_code=error.code, reason=error.problem)


def _finish(
    run: StageRun,
    config: PredictConfig,
    predictor: Predictor,
    rows: Sequence[Row],
    panels: Sequence[Panel],
) -> StageResult:
    _write_table(config.out / "predictions.csv", rows)
    # Files may be called after what the user typed, so neither the table nor the masks go to
    # the tracking server: the folder is named.
    look_at = {"masks and predictions.csv": "."}
    if panels:
        halves = [panels[start : start + 4] for start in range(0, len(panels), 4)]
        save_grid(config.out / "overlays.png", halves, predictor.labels)
        look_at["overlays"] = "overlays.png"
    refused = [row for row in rows if row.outcome == "refused"]
    summary: dict[str, Any] = {
        "inputs": len({row.input for row in rows}),
        "predicted": len(rows) - len(refused),
        "refused": len(refused),
    }
    if refused:
        summary["refused_because"] = _counted([row.reason_code for row in refused])
    return run.finish(summary=summary, look_at=look_at, stays=["overlays.png"])


def _counted(codes: Sequence[str]) -> str:
    return ", ".join(f"{code} ({codes.count(code)})" for code in sorted(set(codes)))


def _write_table(path: Path, rows: Sequence[Row]) -> None:
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(Row.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(vars(row) for row in rows)
