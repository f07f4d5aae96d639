"""A library of an older version gets what it lacks, from its own volumes: no source is read again.

Each item is recorded in the journal once its volumes are complete, so that a process killed at any
moment does at most one again.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from medssl.errors import InputError
from medssl.ingest.config import IngestConfig
from medssl.ingest.describe import perceptual_columns
from medssl.ingest.isolation import map_isolated
from medssl.ingest.items import ItemResult
from medssl.ingest.measure import statistics
from medssl.ingest.state import State
from medssl.library import catalog, slices
from medssl.library.fingerprints.perceptual import SPEC, perceptual
from medssl.library.identity import identity_path
from medssl.library.volumes import read_volume, write_perceptual
from medssl.runs.progress import task

DAMAGED: Final = "damaged_volume"
"""The flag of a volume whose file cannot be read back."""


def is_current(library: Path) -> bool:
    """Return whether the tables of ``library`` lack nothing, as far as their headers tell.

    A library that does not exist yet lacks nothing either.
    """
    fresh = not identity_path(library).exists()
    return fresh or (catalog.is_current(library) and slices.is_current(library))


def is_damaged(row: Mapping[str, Any]) -> bool:
    """Return whether the volume of a row of the catalog was found damaged."""
    return DAMAGED in row["flags"]


def backfill(config: IngestConfig, state: State) -> set[str]:
    """Complete every volume whose signatures are missing or of another spec.

    A volume that cannot be read keeps its row, with the flag ``damaged_volume``.

    Returns:
        The keys of the volumes that were completed.
    """
    todo = [result for result in state.journal.results.values() if any(_lacks(result))]
    completed: set[str] = set()
    work, shared = partial(complete, config.library), [identity_path(config.library)]
    results = map_isolated(work, crashed, todo, workers=config.workers, shared=shared)
    with closing(results), task("Completing fingerprints", len(todo)) as progress:
        for result in results:
            state.journal.append(result)
            completed |= {str(row["volume_key"]) for row in result.volumes if not is_damaged(row)}
            progress.advance()
    return completed


def complete(library: Path, result: ItemResult) -> ItemResult:
    """Return ``result`` with the rows of its volumes completed; runs in a worker process."""
    lacks = _lacks(result)
    rows = [
        _completed(library, row) if needed else row
        for row, needed in zip(result.volumes, lacks, strict=True)
    ]
    return replace(result, volumes=tuple(rows))


def crashed(result: ItemResult) -> ItemResult:
    """Return the result whose volumes killed the worker that read them."""
    lacks = _lacks(result)
    rows = [
        _flagged(row) if needed else row for row, needed in zip(result.volumes, lacks, strict=True)
    ]
    return replace(result, volumes=tuple(rows))


def _lacks(result: ItemResult) -> list[bool]:
    return [row["signature_spec"] != SPEC and not is_damaged(row) for row in result.volumes]


def _completed(library: Path, row: dict[str, Any]) -> dict[str, Any]:
    key = str(row["volume_key"])
    try:
        volume = read_volume(library, key)
    except InputError:
        return _flagged(row)
    found = perceptual(volume.array_IJK, volume.intensity, volume.slice_axis)
    write_perceptual(library, key, found)
    return row | {
        "slice_axis": volume.slice_axis,
        "saturated_share": statistics(volume.array_IJK)["saturated_share"],
        **perceptual_columns(found),
    }


def _flagged(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"flags": sorted({*row["flags"], DAMAGED})}
