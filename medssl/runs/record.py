"""What a run left behind, read back from its folder: settings, digests, numbers and curves."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.errors import InputError
from medssl.runs.manifest import Manifest
from medssl.runs.names import LONGEST_PARAM, accepted_names, accepted_value
from medssl.runs.stage import flatten

Curve = list[tuple[int, float]]
"""(step, value), in order of the steps."""

_CURVES = ("metrics.jsonl", "validation.json")
_LEVELS = 3
"""A run's own numbers, those of its members, and those of members' folds."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run, wherever it was read from."""

    label: str
    stage: str
    settings: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    """``input.<name>`` and ``output.<name>``, and ``git_commit``."""
    numbers: dict[str, float] = field(default_factory=dict)
    """The final ones."""
    curves: dict[str, Curve] = field(default_factory=dict)


def read_folder(folder: Path) -> Record:
    """Return the record of the stage that ``folder`` holds.

    Raises:
        InputError: It holds none.
    """
    manifest = Manifest.read(folder)
    if manifest is None:
        raise InputError(
            f"{folder}: there is no manifest, so this is not the folder of a run",
            hint="give the folder of a stage, or the id of an MLflow run",
        )
    summary = manifest.summary.items()
    settings = flatten(manifest.config)
    names = accepted_names(settings)  # as MLflow has them, to compare with a run read from there
    return Record(
        label=folder.resolve().name,
        stage=manifest.stage,
        settings={names[key]: accepted_value(settings[key], LONGEST_PARAM) for key in settings},
        digests={f"input.{name}": digest for name, digest in manifest.inputs.items()}
        | {f"output.{name}": digest for name, digest in manifest.outputs.items()}
        | {"git_commit": manifest.versions.get("git_commit", "unknown")},
        numbers={name: float(value) for name, value in summary if not isinstance(value, str)},
        curves=_curves(folder),
    )


def _curves(folder: Path) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    for name in _CURVES:
        for depth in range(_LEVELS):
            for path in sorted(folder.glob("*/" * depth + name)):
                within = path.parent.relative_to(folder).parts
                for row in _rows(path):
                    _note(curves, "".join(f"{part}/" for part in within), row)
    return {name: sorted(dict(points).items()) for name, points in curves.items()}


def _note(curves: dict[str, Curve], prefix: str, row: dict[str, Any]) -> None:
    step = row.get("step")
    if isinstance(step, int):
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                curves.setdefault(f"{prefix}{name}", []).append((step, float(value)))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of JSON lines or of one JSON list; a line cut short is left out."""
    text = path.read_text(encoding="utf-8")
    pieces = [text] if path.suffix == ".json" else text.splitlines()
    for piece in pieces:
        try:
            found = json.loads(piece)
        except ValueError:
            continue
        rows = found if isinstance(found, list) else [found]
        yield from (row for row in rows if isinstance(row, dict))
