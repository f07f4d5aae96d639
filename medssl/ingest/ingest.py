"""The stage that makes a library of files: each converted once, or refused with a reason."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from medssl.config.base import Config
from medssl.errors import FolderError
from medssl.ingest.convert import Conversion, convert, crashed
from medssl.ingest.isolation import map_isolated
from medssl.ingest.items import Item
from medssl.ingest.journal import Journal
from medssl.ingest.scan import BIDS_PATIENT, NiftiLabels, Scanner
from medssl.io.deidentify import Pseudonymizer
from medssl.io.limits import IrregularPolicy, Limits
from medssl.io.sources.folder import FileRef, list_files
from medssl.library import volumes as volume_files
from medssl.library.catalog import catalog_digest, write_catalog
from medssl.library.identity import claim_library
from medssl.library.outcomes import (
    FileOutcome,
    counts_by_reason,
    read_paths,
    read_settled,
    write_outcomes,
    write_paths,
)
from medssl.library.volumes import volume_path
from medssl.runs.digest import digest_json
from medssl.runs.progress import task
from medssl.runs.stage import StageResult, open_stage
from medssl.runs.tracking import TrackingConfig


def _patient_pattern(pattern: str | None) -> str | None:
    if pattern is not None:
        try:
            named = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if "patient" not in named:
            raise ValueError("needs a group named patient, such as (?P<patient>[a-z]+_p[0-9]+)_")
    return pattern


class IngestConfig(Config):
    """Everything ``medssl ingest`` reads."""

    sources: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Folders and single files to read; they are never written to."""
    library: Path
    """The folder to make or to add to."""
    key_file: Path
    """The secret key of the pseudonyms. Keep it apart from the library, and keep it: without it
    new scans of a patient cannot be joined to the old ones."""
    create_key: bool = False
    """Make a new key where `key_file` does not exist, instead of refusing to run."""
    patient_pattern: Annotated[str | None, AfterValidator(_patient_pattern)] = None
    """Regular expression with a group `patient`, searched in a NIfTI file's path within its
    source; files of one patient never end in different splits. Default: BIDS, sub-XX."""
    modalities: dict[str, Literal["CT", "MR", "PT"]] = Field(default_factory=dict)
    """Glob on a NIfTI file's path within its source -> modality; the first that fits counts. The
    format itself does not tell; without a glob the modality is "unknown"."""
    exclude: tuple[str, ...] = ()
    """Globs of files to leave out, such as `*/labels/*`; they are counted as skipped."""
    min_slices: Annotated[int, Field(ge=1)] = 4
    """A stack of fewer slices is no volume."""
    max_volume_mib: Annotated[int, Field(gt=0)] = 4096
    """A file whose header announces more is refused before anything is allocated."""
    irregular: IrregularPolicy = IrregularPolicy()
    """What becomes of scans whose slices form no regular stack."""
    workers: Annotated[int, Field(ge=0)] = 2
    """Processes that convert; 1 means this process, 0 one per core."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""

    @model_validator(mode="after")
    def _key_lies_outside_the_library(self) -> Self:
        if self.key_file.resolve().is_relative_to(self.library.resolve()):
            raise ValueError("key_file must not lie in the library, which it would lay open")
        return self


def ingest(config: IngestConfig, *, overwrite: bool = False) -> StageResult:
    """Convert what is in ``config.sources`` into ``config.library``.

    Every file ends in exactly one of converted, skipped and quarantined, with a reason where it
    was not converted. Only files that are new or changed are converted again; a run that was
    killed continues where it stopped.

    Raises:
        InputError: a source or the key is missing.
        FolderError: the library was made with another key, or is in use.
    """
    library = config.library
    pseudonymizer = Pseudonymizer.from_key_file(config.key_file, create=config.create_key)
    refs = list_files(config.sources, pseudonymizer, skip=library)
    listing = [[ref.file_key, ref.bytes, ref.mtime_ns] for ref in refs]
    inputs = {"files": digest_json(listing), "key": pseudonymizer.key_id}
    with open_stage(
        "ingest",
        library,
        config,
        inputs=inputs,
        tracking=config.tracking,
        overwrite=overwrite,
        incremental=not overwrite,
    ) as run:
        if run.previous is not None:
            return run.previous
        claim_library(library, pseudonymizer.key_id)
        outcomes, rows = _fill(config, refs, pseudonymizer)
        return run.finish(
            summary=_summary(outcomes, rows),
            look_at={
                "catalog of volumes": "catalog.parquet",
                "what was refused, and why": "quarantine.csv",
            },
            outputs={"catalog": catalog_digest(library)},
        )


def _fill(
    config: IngestConfig, refs: Sequence[FileRef], pseudonymizer: Pseudonymizer
) -> tuple[list[FileOutcome], list[dict[str, object]]]:
    """Convert what is not yet there; return an outcome for every file, a row for every volume."""
    library = config.library
    paths = _joined_paths(library, refs)
    write_paths(library, paths, [])
    journal = Journal(library)
    limits = Limits(config.max_volume_mib * 2**20, config.min_slices, config.irregular)
    labels = NiftiLabels(
        patient=re.compile(config.patient_pattern or BIDS_PATIENT), modalities=config.modalities
    )
    scan = Scanner(pseudonymizer, limits, labels, config.exclude).scan(refs, journal.results, paths)
    conversion = Conversion(library=library, pseudonymizer=pseudonymizer, limits=limits)
    _convert_all(conversion, scan.items, journal, workers=config.workers)
    seen = {ref.file_key for ref in refs}
    _settle(journal, {item.key for item in scan.items} | scan.kept, seen)
    outcomes = _outcomes(library, journal, scan.settled, seen)
    rows = [row for result in journal.results.values() for row in result.volumes]
    write_catalog(library, rows, pseudonymizer.key_id)
    write_outcomes(library, outcomes)
    write_paths(library, paths, outcomes)
    volume_files.sweep(library, keep={str(row["volume_key"]) for row in rows})
    return outcomes, rows


def _joined_paths(library: Path, refs: Sequence[FileRef]) -> dict[str, str]:
    """Return where every file lies, earlier runs included.

    Raises:
        FolderError: two files would share a key.
    """
    earlier = read_paths(library)
    now = {ref.file_key: str(ref.path) for ref in refs}
    for file_key, path in now.items():
        before = earlier.get(file_key, path)
        if before != path and Path(before).exists():
            raise FolderError(
                "a source has the same folder name, and a file of the same name, as a source of "
                "an earlier ingest of this library",
                hint="rename one of the folders, or use another library",
            )
    return earlier | now


def _convert_all(
    conversion: Conversion, items: Iterable[Item], journal: Journal, *, workers: int
) -> None:
    items = list(items)
    todo = [item for item in items if not _is_done(conversion.library, journal, item)]
    results = map_isolated(partial(convert, conversion), crashed, todo, workers=workers)
    done = len(items) - len(todo)
    with task("Converting", len(items), done=done) as progress:
        for result in results:
            journal.append(result)
            progress.advance()


def _is_done(library: Path, journal: Journal, item: Item) -> bool:
    result = journal.results.get(item.key)
    return (
        result is not None
        and result.signature == item.signature
        and all(volume_path(library, row["volume_key"]).is_file() for row in result.volumes)
    )


def _settle(journal: Journal, current: Collection[str], seen: set[str]) -> None:
    """Drop earlier items whose files now belong to other items; keep those not listed today."""
    journal.replace(
        result
        for key, result in journal.results.items()
        if key in current or not seen & {row.file_key for row in result.files}
    )


def _outcomes(
    library: Path, journal: Journal, settled: Iterable[FileOutcome], seen: set[str]
) -> list[FileOutcome]:
    """Return one outcome per file: of this run, and of earlier ones for files not listed today."""
    earlier = (row for row in read_settled(library) if row.file_key not in seen)
    converted = (row for result in journal.results.values() for row in result.files)
    return list({row.file_key: row for row in (*earlier, *settled, *converted)}.values())


def _summary(
    outcomes: Sequence[FileOutcome], rows: Sequence[Mapping[str, object]]
) -> dict[str, str | int | float | bool]:
    counts = Counter(row.outcome for row in outcomes)
    return {
        "files": len(outcomes),
        "converted": counts["converted"],
        "skipped": counts["skipped"],
        "quarantined": counts["quarantined"],
        "volumes": len(rows),
        "patients": len({row["patient_key"] for row in rows}),
        **{f"reason.{code}": count for code, count in counts_by_reason(outcomes).items()},
    }
