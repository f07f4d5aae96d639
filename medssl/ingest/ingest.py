"""The stage that makes a library of files: each converted once, or refused with a reason."""

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from medssl.errors import FolderError
from medssl.ingest.backfill import backfill, is_current, is_damaged
from medssl.ingest.batches import Filling
from medssl.ingest.config import IngestConfig
from medssl.ingest.follow import follow
from medssl.ingest.listing import Sources, list_local, listed, opened_sources
from medssl.ingest.report import FILE as REPORT
from medssl.ingest.report import write_report
from medssl.ingest.state import State, broken_volumes
from medssl.io.deidentify import Pseudonymizer
from medssl.io.ocr import check_installed as check_ocr
from medssl.io.sources.folder import FileRef
from medssl.io.sources.staging import Staging
from medssl.library import volumes as volume_files
from medssl.library.catalog import catalog_digest, volume_keys, write_catalog
from medssl.library.identity import claim_library
from medssl.library.outcomes import FileOutcome, counts_by_reason
from medssl.library.slices import write_slices
from medssl.runs.digest import digest_json
from medssl.runs.folder import is_disk_full, read_json, write_json
from medssl.runs.stage import StageResult, open_stage

__all__ = ["IngestConfig", "ingest"]

_log = logging.getLogger(__name__)
_UNFINISHED = Path("private", "unfinished.json")
_LEAST_FREE_BYTES = 2**20

LOOK_AT = {
    "what came in, with pictures": REPORT,
    "catalog of volumes": "catalog.parquet",
    "what was refused, and why": "quarantine.csv",
}


def ingest(config: IngestConfig, *, overwrite: bool = False) -> StageResult:
    """Convert what is in ``config.sources`` into ``config.library``.

    Every file ends in exactly one of converted, skipped and quarantined, with a reason where it
    was not converted. Only files that are new or changed are read and converted again; a run
    that was killed continues where it stopped. With ``config.follow`` this is done again and
    again, until a signal ends it.

    Raises:
        InputError: a source or the key is missing, or what `ocr` needs is not installed.
        SourceError: a source cannot be asked what it holds.
        FolderError: the library was made with another key, is in use, or its disk is full.
    """
    if config.ocr:
        check_ocr()
    pseudonymizer = Pseudonymizer.from_key_file(config.key_file, create=config.create_key)
    with opened_sources(config) as sources:
        once = partial(_ingest_once, config, sources, pseudonymizer)
        if config.follow is None:
            return once(overwrite=overwrite)
        return follow(config.follow, once, overwrite=overwrite)


def _ingest_once(
    config: IngestConfig,
    sources: Sources,
    pseudonymizer: Pseudonymizer,
    *,
    overwrite: bool = False,
    quiet_s: float | None = None,
) -> StageResult:
    library = config.library
    refs, archives = list_local(sources, config, pseudonymizer, quiet_s=quiet_s)
    staging = Staging(library, pseudonymizer, config.settings_digest())
    deliveries = staging.deliveries([*archives, *sources.parcels])
    broken = broken_volumes(library, volume_keys(library), thorough=config.repair)
    if broken or not is_current(library):
        _note_unfinished(library)
    inputs = {
        "files": digest_json(listed(refs)),
        "parcels": digest_json(sorted([d.key, d.stamp] for d in deliveries)),
        "key": pseudonymizer.key_id,
        "tries": str(_unfinished(library)),
    }
    with (
        _full_disk_explained(library),
        open_stage(
            "ingest",
            library,
            config,
            inputs=inputs,
            tracking=config.tracking,
            overwrite=overwrite,
            incremental=not overwrite,
        ) as run,
    ):
        if run.previous is not None:
            return run.previous
        claim_library(library, pseudonymizer.key_id)
        filling = Filling(config, pseudonymizer, State(library, broken), staging, deliveries)
        summary = _fill(filling, refs)
        return run.finish(
            summary=summary,
            look_at=LOOK_AT,
            stays=[REPORT],
            outputs={"catalog": catalog_digest(library)},
        )


def _fill(filling: Filling, refs: Sequence[FileRef]) -> dict[str, str | int | float | bool]:
    """Take everything in, write the library's tables, and return the summary."""
    library, state = filling.config.library, filling.state
    filling.run(refs)
    completed = backfill(filling.config, state)
    rows = state.volumes()
    write_catalog(library, rows, filling.pseudonymizer.key_id)
    outcomes = state.save()
    _check_accounts(filling, outcomes)
    keys = {str(row["volume_key"]) for row in rows}
    damaged = set(write_slices(library, keys, fresh=filling.fresh | completed))
    damaged |= {str(row["volume_key"]) for row in rows if is_damaged(row)}
    volume_files.sweep(library, keep=keys)
    write_report(library, outcomes, rows, state.journal.results.values())
    if filling.failed or any(row.reason_code == "unreadable_file" for row in outcomes):
        _note_unfinished(library)
    return _summary(outcomes, rows, filling, len(damaged))


def _check_accounts(filling: Filling, outcomes: Sequence[FileOutcome]) -> None:
    """Fail where a file that was seen has no outcome; it cannot have two."""
    without = filling.seen - {row.file_key for row in outcomes}
    if without:
        raise RuntimeError(f"{len(without)} files were seen and have no outcome: a bug in medssl")


def _summary(
    outcomes: Sequence[FileOutcome],
    rows: Sequence[Mapping[str, object]],
    filling: Filling,
    damaged: int,
) -> dict[str, str | int | float | bool]:
    counts = Counter(row.outcome for row in outcomes)
    extra = {
        "parcels_failed": len(filling.failed),
        "series_kept_without_files": filling.orphans,
        "damaged_volumes": damaged,
    }
    if damaged:
        _log.warning(
            "%d volume(s) of the library are damaged; ingest their sources with --repair.", damaged
        )
    if filling.failed:
        _log.warning(
            "%d parcel(s) could not be fetched; run the same command again to try them again.",
            len(filling.failed),
        )
    return {
        "files": len(outcomes),
        "converted": counts["converted"],
        "skipped": counts["skipped"],
        "quarantined": counts["quarantined"],
        "volumes": len(rows),
        "patients": len({row["patient_key"] for row in rows}),
        **{name: count for name, count in extra.items() if count},
        **{f"reason.{code}": count for code, count in counts_by_reason(outcomes).items()},
    }


def _unfinished(library: Path) -> int:
    """Return how many runs ended with something left to try again."""
    path = library / _UNFINISHED
    return int(read_json(path)["runs"]) if path.is_file() else 0


def _note_unfinished(library: Path) -> None:
    """Make the next run begin, though it finds the same sources, where one may go further."""
    write_json(library / _UNFINISHED, {"runs": _unfinished(library) + 1})


@contextmanager
def _full_disk_explained(library: Path) -> Iterator[None]:
    """Turn any failure on a full disk into words; what was finished stays."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and is_disk_full(error)
        if full or shutil.disk_usage(library).free < _LEAST_FREE_BYTES:
            raise FolderError(
                f"the disk of {library} is full",
                hint="make room and run the same command again: it goes on where it stopped",
            ) from error
        raise
