"""The tables that predictions leave: one row per volume, one per structure."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from medssl.errors import RejectedFileError
from medssl.inference.predicted import Predicted
from medssl.runs.folder import atomic_path

PREDICTIONS, VOLUMES = "predictions.csv", "volumes.csv"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of ``predictions.csv``."""

    input: int
    """Number of the file or folder among those given, from 1."""
    outcome: Literal["predicted", "refused", "skipped"]
    """`skipped`: a series that was never a scan for this model, beside one that was."""
    reason_code: str = ""
    reason: str = ""
    name: str = ""
    """What the files of the volume are called after."""
    files: str = ""
    """Everything that was written, separated by `; `."""
    overlay: str = ""
    sent: str = ""
    """Of what was to be sent: how many objects the archive has, or why it does not."""
    shape: str = ""
    spacing_mm: str = ""
    answers: str = ""
    """Of tasks about whole volumes: probability of every class, or every number."""
    distance: float | None = None
    """From the scans that the model was trained on; empty where the model does not tell."""
    usual: float | None = None
    """Share of those scans that are closer, from 0 to 1."""
    warnings: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class VolumeRow:
    """One line of ``volumes.csv``: one structure of one volume."""

    input: int
    name: str
    structure: str
    voxels: int
    volume_ml: float


def row_of(predicted: Predicted, overlay: str, files: Sequence[str], seconds: float) -> Row:
    """Return the row of a volume."""
    volume = predicted.volume
    return Row(
        input=predicted.number,
        outcome="predicted",
        name=predicted.name,
        files="; ".join(files),
        overlay=overlay,
        shape=" x ".join(map(str, volume.shape)),
        spacing_mm=" x ".join(f"{step:.3g}" for step in volume.spacing_mm),
        answers="; ".join(f"{name} {value:.4g}" for name, value in predicted.answers.items()),
        distance=_rounded(predicted.distance),
        usual=_rounded(predicted.usual),
        warnings=" ".join(predicted.warnings),
        seconds=round(seconds, 2),
    )


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def refused(number: int, error: RejectedFileError) -> Row:
    """Return the row of what could not be predicted."""
    outcome: Literal["skipped", "refused"] = "skipped" if error.skipped else "refused"
    return Row(input=number, outcome=outcome, reason_code=error.code, reason=error.problem)


def volume_rows(predicted: Predicted) -> list[VolumeRow]:
    """Return one row per structure of a segmentation."""
    names = predicted.masks.names if predicted.masks else ()
    return [
        VolumeRow(
            input=predicted.number,
            name=predicted.name,
            structure=name,
            voxels=count,
            volume_ml=round(count * predicted.voxel_ml, 4),
        )
        for name, count in zip(names, predicted.voxels, strict=True)
    ]


def write_table(path: Path, kind: type[Any], rows: Iterable[Any]) -> None:
    """Write rows of one kind as CSV."""
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(kind)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
