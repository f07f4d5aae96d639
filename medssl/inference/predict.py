"""The predict stage: a task model and scans in, masks on the scans' own grids or answers out."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny

from medssl.config.base import Config
from medssl.config.choice import choice, find
from medssl.errors import RejectedFileError
from medssl.inference.outputs.base import OUTPUTS, Output
from medssl.inference.outputs.nifti import Nifti
from medssl.inference.overlay import Panel, most_labelled_slice, save_grid
from medssl.inference.predicted import Predicted
from medssl.inference.predictor import Predictor, choose_device
from medssl.inference.rows import (
    PREDICTIONS,
    VOLUMES,
    Row,
    VolumeRow,
    refused,
    row_of,
    volume_rows,
    write_table,
)
from medssl.inference.sources import Scan, Source, digest_sources, find_sources, read_scans
from medssl.io.volume import Volume
from medssl.runs.progress import track
from medssl.runs.stage import StageResult, StageRun, open_stage
from medssl.runs.tracking import TrackingConfig
from medssl.training.task_model import load_task_model

_MOST_IN_FIGURE = 8
_PAGE = "page"
"""The output that `report` asks for."""


class PredictConfig(Config):
    """Everything ``medssl predict`` reads."""

    model: Path
    """A MONAI bundle that `medssl export` wrote, or one model of a finetune run."""
    inputs: Annotated[tuple[Path, ...], Field(min_length=1)]
    """NIfTI files, folders of NIfTI files, and folders of DICOM files."""
    out: Path
    """Folder for the masks."""
    outputs: Annotated[
        tuple[Annotated[SerializeAsAny[Output.Config], choice(OUTPUTS)], ...],
        Field(min_length=1),
    ] = (Nifti.Config(),)
    """What predictions are written as, by the names of files in medssl/inference/outputs."""
    report: bool = False
    """Also write a page to look at, as the output `page` does."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs; `auto` takes a GPU when there is one."""
    accept_other_modality: bool = False
    """Also predict DICOM of another modality than the model was trained on."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""


def predict(config: PredictConfig, *, overwrite: bool = False) -> StageResult:
    """Predict every input; one that cannot be read becomes a row with the reason.

    Leaves ``predictions.csv``, what the outputs write, and of a segmentation ``volumes.csv``,
    ``overlays/<name>.png`` per volume and some of these in ``overlays.png``.

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
        work = _Work(config, Predictor(model, choose_device(config.device)))
        for source in track(sources, "predict"):
            work.do(source)
        return work.finish(run)


@dataclass
class _Work:
    """One call of the stage under way."""

    config: PredictConfig
    predictor: Predictor
    rows: list[Row] = field(default_factory=list)
    volumes: list[VolumeRow] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)

    def __post_init__(self) -> None:
        wanted: list[Any] = list(self.config.outputs)
        if self.config.report and _PAGE not in {each.name for each in wanted}:
            wanted.append(find(OUTPUTS, _PAGE).Config())
        self.outputs: list[Output] = [each.build() for each in wanted]

    def do(self, source: Source) -> None:
        """Predict what ``source`` holds; what cannot be predicted becomes a row."""
        try:
            scans = read_scans(source, self.predictor.description.modality)
        except RejectedFileError as error:
            self.rows.append(refused(source.number, error))
            return
        for position, scan in enumerate(scans, start=1):
            name = source.stem if len(scans) == 1 else f"{source.stem}_{position}"
            try:
                self._do_scan(source.number, name, scan)
            except RejectedFileError as error:
                self.rows.append(refused(source.number, error))

    def _do_scan(self, number: int, name: str, scan: Scan) -> None:
        started = time.monotonic()
        _check_modality(self.config, self.predictor, scan.volume)
        predicted = predict_scan(self.predictor, number, name, scan)
        overlay = self._overlay(predicted)
        written = [self.config.out / overlay] if overlay else []
        for output in self.outputs:
            done = replace(predicted, written=tuple(written))
            written += output.write(done, self.config.out)
        files = [str(path.relative_to(self.config.out)) for path in written]
        seconds = time.monotonic() - started
        self.rows.append(row_of(predicted, overlay, files[bool(overlay) :], seconds))
        self.volumes += volume_rows(predicted)

    def _overlay(self, predicted: Predicted) -> str:
        """Draw a segmentation over its scan; return the picture's path within the folder."""
        if predicted.masks is None:
            return ""
        mask_IJK, affine_ras = predicted.masks.painted_IJK, predicted.volume.affine_ras
        panel = Panel(
            title=f"input {predicted.number}",
            image_IJK=predicted.volume.array_IJK,
            mask_IJK=mask_IJK,
            affine_ras=affine_ras,
            slice_k=most_labelled_slice(mask_IJK, affine_ras),
        )
        path = f"overlays/{predicted.name}.png"
        save_grid(self.config.out / path, [[panel]], predicted.labels)
        self.panels += [panel] if len(self.panels) < _MOST_IN_FIGURE else []
        return path

    def finish(self, run: StageRun) -> StageResult:
        """Write the tables, and say what came of it."""
        out = self.config.out
        write_table(out / PREDICTIONS, Row, self.rows)
        # Files may be called after what the user typed, so neither the tables nor the masks go
        # to the tracking server: the folder is named.
        look_at = {f"masks and {PREDICTIONS}": "."}
        if self.predictor.task.kind == "segmentation":
            write_table(out / VOLUMES, VolumeRow, self.volumes)
            look_at["volumes of the structures"] = VOLUMES
        if self.panels:
            halves = [self.panels[start : start + 4] for start in range(0, len(self.panels), 4)]
            save_grid(out / "overlays.png", halves, self.predictor.labels)
            look_at["overlays"] = "overlays.png"
        for output in self.outputs:
            look_at |= output.close(out)
        return run.finish(summary=self._summary(), look_at=look_at, stays=list(look_at.values()))

    def _summary(self) -> dict[str, Any]:
        outcomes = [row.outcome for row in self.rows]
        summary: dict[str, Any] = {"inputs": len({row.input for row in self.rows})}
        summary |= {name: outcomes.count(name) for name in ("predicted", "refused")}
        codes = [row.reason_code for row in self.rows if row.outcome == "refused"]
        if codes:
            counted = [f"{code} ({codes.count(code)})" for code in sorted(set(codes))]
            summary["refused_because"] = ", ".join(counted)
        return summary


def predict_scan(predictor: Predictor, number: int, name: str, scan: Scan) -> Predicted:
    """Return what ``predictor`` says of ``scan``.

    Args:
        predictor: The model.
        number: Number of the input among those given, from 1.
        name: What files of it are to be called after.
        scan: The volume, on its native grid.

    Raises:
        RejectedFileError: There is nothing to see in it.
    """
    started = time.monotonic()
    masks, answers = None, dict[str, float]()
    if predictor.task.kind == "segmentation":
        masks = predictor.segment(scan.volume)
    else:
        answers = predictor.answers(scan.volume)
    return Predicted(
        name=name,
        number=number,
        volume=scan.volume,
        slices=scan.slices,
        masks=masks,
        answers=answers,
        description=predictor.description,
        seconds=time.monotonic() - started,
    )


def _check_modality(config: PredictConfig, predictor: Predictor, volume: Volume) -> None:
    trained = predictor.description.modality
    known = "unknown" not in (trained, volume.modality)
    if known and trained != volume.modality and not config.accept_other_modality:
        raise RejectedFileError(
            "other_modality",
            f"the scan is {volume.modality}, the model was trained on {trained}; set "
            "accept_other_modality to predict it all the same",
        )
