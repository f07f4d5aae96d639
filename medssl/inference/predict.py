"""The predict stage: a task model and scans in, masks on the scans' own grids or answers out."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medssl.config.choice import find
from medssl.errors import InputError, RejectedFileError
from medssl.inference.doubts import doubts
from medssl.inference.model_source import open_model
from medssl.inference.outputs.base import OUTPUTS, Output
from medssl.inference.overlay import Panel, most_labelled_slice, save_grid
from medssl.inference.predict_config import PredictConfig
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
from medssl.inference.scans import Scan, ScanReader
from medssl.inference.series import Wanted
from medssl.inference.sources import Source, digest_sources, find_sources
from medssl.io.sources.base import SourceError
from medssl.io.sources.storing import WebStore
from medssl.runs.progress import track
from medssl.runs.stage import StageResult, StageRun, open_stage

__all__ = ["PredictConfig", "predict", "predict_scan"]

_MOST_IN_FIGURE = 8
_NOT_SENT = "not sent"
_PAGE = "page"
"""The output that `report` asks for."""


def predict(config: PredictConfig, *, overwrite: bool = False) -> StageResult:
    """Predict every input; one that cannot be read becomes a row with the reason.

    Leaves ``predictions.csv``, what the outputs write, and of a segmentation ``volumes.csv``,
    ``overlays/<name>.png`` per volume and some of these in ``overlays.png``.

    Raises:
        InputError: The model cannot be used, or there is something to send to and nothing to send.
        StoreError: The registry that it is to be taken from cannot be reached.
        FolderError: ``config.out`` holds something else, and ``overwrite`` is off.
    """
    model = open_model(config.model, config.tracking, config.out)
    sources = find_sources(config.inputs, config)
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
        for left in config.out.glob(".incoming-*"):  # by a run that was killed
            shutil.rmtree(left)
        device = choose_device(config.device)
        work = _Work(config, Predictor(model, device, half=config.half_precision))
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
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        config, about = self.config, self.predictor.description
        wanted: list[Any] = list(config.outputs)
        if config.report and _PAGE not in {each.name for each in wanted}:
            wanted.append(find(OUTPUTS, _PAGE).Config())
        self.outputs: list[Output] = [each.build() for each in wanted]
        self.store = WebStore(config.send, config.dicomweb) if config.send else None
        if self.store and not any(output.dicom for output in self.outputs):
            raise InputError(
                "there is nothing to send: no output writes DICOM",
                hint="add --to dicom_seg, or dicom_sr for answers about whole scans",
            )
        self.reader = ScanReader(
            wanted=Wanted(
                modality=about.modality,
                any_modality=config.accept_other_modality,
                body_part=config.body_part or about.training.get("body_part"),
                series=config.series,
                least_slices=config.limits.least_slices,
            ),
            settings=config,
            limits=config.limits,
            room=config.out,
        )

    def do(self, source: Source) -> None:
        """Predict what ``source`` holds; what cannot be predicted becomes a row."""
        for found in self.reader.read(source):
            if isinstance(found, RejectedFileError):
                self.rows.append(refused(source.number, found))
                continue
            try:
                self._do_scan(source.number, found)
            except RejectedFileError as error:
                self.rows.append(refused(source.number, error))

    def _do_scan(self, number: int, scan: Scan) -> None:
        started = time.monotonic()
        predicted = predict_scan(self.predictor, number, self._name(scan.stem), scan)
        overlay = self._overlay(predicted)
        written = [self.config.out / overlay] if overlay else []
        for output in self.outputs:
            done = replace(predicted, written=tuple(written))
            written += output.write(done, self.config.out)
        files = [str(path.relative_to(self.config.out)) for path in written]
        seconds = time.monotonic() - started
        row = row_of(predicted, overlay, files[bool(overlay) :], seconds)
        self.rows.append(replace(row, sent=self._sent(written)))
        self.volumes += volume_rows(predicted)

    def _sent(self, written: Sequence[Path]) -> str:
        """Send what is DICOM; return what became of it."""
        if self.store is None:
            return ""
        kept = 0
        for path in written:
            if path.suffix == ".dcm":
                try:
                    self.store.send(path)
                except SourceError as error:
                    return f"{_NOT_SENT}: {error.problem}; {kept} sent before"
                kept += 1
        return f"{kept} objects"

    def _name(self, stem: str) -> str:
        """Return ``stem``, or one like it where an earlier scan has it."""
        name, number = stem, 1
        while name in self.names:
            number += 1
            name = f"{stem}_{number}"
        self.names.add(name)
        return name

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
        self.panels += [panel.alone()] if len(self.panels) < _MOST_IN_FIGURE else []
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
        if "skipped" in outcomes:
            summary["series_and_files_skipped"] = outcomes.count("skipped")
        unsent = sum(row.sent.startswith(_NOT_SENT) for row in self.rows)
        if unsent:
            summary["not_sent"] = unsent
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
        RejectedFileError: There is nothing to see in it, or too little memory.
    """
    started = time.monotonic()
    volume, reference = scan.volume, predictor.reference
    seen_1IJK = predictor.see(volume)
    distance = predictor.distance(seen_1IJK)
    masks, answers = None, dict[str, float]()
    if predictor.task.kind == "segmentation":
        masks = predictor.segment(volume, seen_1IJK)
    else:
        answers = predictor.answers(volume, seen_1IJK)
    usual = reference.share_closer(distance) if reference and distance is not None else None
    return Predicted(
        name=name,
        number=number,
        volume=volume,
        slices=scan.slices,
        masks=masks,
        answers=answers,
        description=predictor.description,
        seconds=time.monotonic() - started,
        distance=distance,
        usual=usual,
        warnings=tuple(doubts(volume, predictor.description, reference, distance)),
    )
