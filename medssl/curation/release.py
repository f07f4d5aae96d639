"""Released selections: they never change, and what is based on one never loses what it keeps.

A released selection is a promise: papers and models name it. So a later selection that is based on
it keeps every volume that it keeps, in the same split, however good the newcomers are; the one
exception is consent withdrawn.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.decisions import Exclusion
from medssl.curation.edges import Edge
from medssl.curation.ledger import FILE as LEDGER
from medssl.curation.ledger import read_ledger
from medssl.curation.representatives import KNOWN, RELEASED
from medssl.curation.selection import (
    EDGE_COLUMNS,
    WITHDRAWN,
    finished_folder,
    withdrawn_keys,
)
from medssl.errors import FolderError, InputError
from medssl.runs.digest import digest_file
from medssl.runs.folder import read_json, write_json, write_text
from medssl.runs.manifest import Manifest, now

FILE = "release.json"
EDGES = "edges.parquet"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Base:
    """What a released selection decided about the volumes that are still the same."""

    standing: dict[str, int]
    """Of every volume it knows whose voxels did not change (see ``representatives``)."""
    settled: frozenset[str]
    """Those of them that need not be compared with each other again."""
    exclusions: dict[str, Exclusion]
    """What it excluded."""
    split: dict[str, str]
    """Of what it keeps, and of the copies of that."""
    edges: list[Edge]
    """Between settled volumes."""
    judged: dict[str, str]
    """What a person had said of volumes."""
    gone: int
    """How many volumes it keeps that the library has no more, or not with the same voxels."""


def release(folder: Path) -> None:
    """Declare the selection in ``folder`` released; nothing changes it from now on."""
    if not (folder / FILE).exists():
        digests = {name: digest_file(folder / name) for name in (LEDGER, EDGES)}
        tree = {"format_version": FORMAT_VERSION, "released_at": now(), "sha256": digests}
        write_json(folder / FILE, tree)


def refuse_to_replace(folder: Path) -> None:
    """Raise where a released selection would be made anew.

    Raises:
        FolderError: ``folder`` holds one.
    """
    if (folder / FILE).exists():
        raise FolderError(
            f"the selection {folder.name!r} is released: it is never changed or replaced",
            hint=f"make a new one: medssl curate LIBRARY --name NEW based_on={folder.name}",
        )


def release_digest(library: Path, name: str) -> str:
    """Return a digest of what the released selection ``name`` decided.

    Raises:
        InputError: there is no such selection, it is not released, or it was tampered with.
    """
    folder = finished_folder(library, name)
    if not (folder / FILE).is_file():
        raise InputError(
            f"the selection {name!r} is not released, so nothing can be based on it",
            hint=f"medssl curate LIBRARY --name {name} --release",
        )
    recorded: Mapping[str, str] = read_json(folder / FILE)["sha256"]
    for table, digest in recorded.items():
        if not (folder / table).is_file() or digest_file(folder / table) != digest:
            raise InputError(
                f"{table} of the released selection {name!r} is missing or was changed",
                hint="restore the folder from a backup; a release cannot be made again",
            )
    return recorded[LEDGER]


def read_base(library: Path, name: str, rows: CatalogRows, near_duplicate: object) -> Base:
    """Return what the released selection ``name`` decided about ``rows``.

    Args:
        library: The library's folder.
        name: Of the selection.
        rows: All of the present catalog.
        near_duplicate: The settings of this name, as plain data: they must be the same.

    Raises:
        InputError: its edges were judged by other settings.
    """
    folder = finished_folder(library, name)
    manifest = Manifest.read(folder)
    before = manifest.config.get("near_duplicate") if manifest else None
    if before != near_duplicate:
        raise InputError(
            f"{name!r} was made with other settings of near_duplicate: its pairs would not compare",
            hint="use the same settings, or leave out based_on and start anew",
        )
    columns = ("item", "decision", "stage", "reason_code", "reason", "representative", "split")
    more = ("metric", "score", "judgement", "rule_version", "voxel_digest")
    ledger = read_ledger(folder, (*columns, *more))
    digests, place_of = rows.column("voxel_digest"), rows.place_of
    standing: dict[str, int] = {}
    exclusions: dict[str, Exclusion] = {}
    split: dict[str, str] = {}
    judged: dict[str, str] = {}
    stands_for: dict[str, str] = {}
    gone = 0
    for batch in ledger.to_batches(max_chunksize=32_768):
        for row in batch.to_pylist():
            place, decision = place_of.get(row["item"]), row["decision"]
            if place is None or digests[place].as_py() != row["voxel_digest"]:
                gone += decision == "keep"
                continue
            key = rows.keys[place]  # not another copy of it in memory
            standing[key] = RELEASED if decision == "keep" else KNOWN
            if decision in {"exclude", "review"}:
                exclusions[key] = Exclusion(
                    row["reason_code"],
                    row["reason"],
                    row["stage"],
                    row["rule_version"],
                    decision,
                    row["representative"],
                    row["metric"],
                    row["score"],
                )
            elif decision != "keep":
                stands_for[key] = row["representative"]
            if row["judgement"]:
                judged[key] = row["judgement"]
            if row["split"]:
                split[key] = sys.intern(row["split"])
    orphans = {key for key, kept in stands_for.items() if standing.get(kept) != RELEASED}
    settled = frozenset(standing) - orphans
    return Base(standing, settled, exclusions, split, _edges(folder, settled), judged, gone)


def withdraw(library: Path, keys: Iterable[str], rows: CatalogRows) -> frozenset[str]:
    """Note that these patients and volumes are withdrawn; return the volumes that are, by now.

    What is withdrawn stays so for every selection of the library.

    Raises:
        InputError: a key is neither a volume's nor a patient's.
    """
    before, wanted = withdrawn_keys(library), frozenset(keys)
    patient_of = rows.words("patient_key")
    unknown = sorted(wanted - before - patient_of.keys() - set(patient_of.values()))
    if unknown:
        some = ", ".join(unknown[:5]) + (" and more" if len(unknown) > 5 else "")  # noqa: PLR2004
        raise InputError(
            f"{len(unknown)} of the withdrawn keys name no volume or patient here: {some}",
            hint="keys stand in full in kept.parquet and ledger.parquet of a selection",
        )
    now_withdrawn = before | wanted
    if wanted - before:
        text = "".join(f"{key}\n" for key in sorted(now_withdrawn))
        write_text(Path(library) / "selections" / WITHDRAWN, text)
    if not now_withdrawn:
        return frozenset()
    return frozenset(k for k, p in patient_of.items() if k in now_withdrawn or p in now_withdrawn)


def _edges(folder: Path, settled: frozenset[str]) -> list[Edge]:
    try:
        table = pq.read_table(folder / EDGES, columns=list(EDGE_COLUMNS))
    except OSError as error:
        raise InputError(
            f"{EDGES} of the released selection {folder.name!r} cannot be read",
            hint="restore the folder from a backup",
        ) from error
    edges = (
        Edge(**row) for batch in table.to_batches(max_chunksize=32_768) for row in batch.to_pylist()
    )
    return [edge for edge in edges if settled.issuperset(edge.volumes)]
