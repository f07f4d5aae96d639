"""The stage that writes DICOM files which may leave: each written, or refused with a reason."""

import csv
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from medssl.io.deidentify import Pseudonymizer
from medssl.io.limits import Limits
from medssl.io.sources.base import ParcelSource, SourceError
from medssl.io.sources.folder import FileRef, list_files
from medssl.io.sources.opening import FetchSettings, Source, open_fetched, set_apart
from medssl.io.sources.staging import Delivery, Ledger, Staging
from medssl.library.identity import claim_library
from medssl.privacy.files import FileRules
from medssl.privacy.header import Dates
from medssl.privacy.writing import IMAGES, FileResult, Writer
from medssl.runs.digest import digest_json
from medssl.runs.folder import atomic_path
from medssl.runs.stage import StageResult, open_stage
from medssl.runs.tracking import TrackingConfig
from medssl.runs.workers import Workers

VERSION = "3"
"""Goes up when the same file is written otherwise: it is then written again."""

TABLE = "files.csv"


def _deface_command(command: str | None) -> str | None:
    if command is not None:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"not a command line: {error}") from None
        if not all(any(place in word for word in words) for place in ("{input}", "{output}")):
            raise ValueError("needs {input} and {output}, which become two folders")
    return command


class DeidentifyConfig(FetchSettings):
    """Everything ``medssl deidentify`` reads."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    """Folders, files and archives (zip, tar) to read, never written to; or addresses of stores
    and picture archives, as in `ingest`."""
    out: Path
    """The folder to make or to add to. Its `images/` may leave; the rest is the record."""
    key_file: Path
    """The secret key of the pseudonyms. The same key gives the same pseudonyms as `ingest`."""
    create_key: bool = False
    """Make a new key where `key_file` does not exist, instead of refusing to run."""
    dates: Dates = "shifted"
    """All dates of a patient moved by the same secret number of days, so that distances in time
    stay; or removed. Without times of day the uptake of a PET cannot be computed."""
    characteristics: bool = True
    """Keep sex, weight, size, and the age in bands of ten years."""
    allow_faces: bool = False
    """Write heads as they are. Faces can be recognised from them: ask who is in charge."""
    deface_command: Annotated[str | None, AfterValidator(_deface_command)] = None
    """Command that removes faces, run once per series that may show one. `{input}` is a folder
    of DICOM files without identifiers; for each the command leaves one of the same name and size
    in the folder `{output}`, of which only the pixels are taken."""
    max_volume_mib: Annotated[int, Field(gt=0)] = 4096
    """A file whose header announces more is refused before anything is allocated."""
    workers: Workers = 2
    """Processes, 0 for one per core; or a cluster, as in `ingest`."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""

    @model_validator(mode="after")
    def _key_lies_elsewhere(self) -> Self:
        if self.key_file.resolve().is_relative_to(self.out.resolve()):
            raise ValueError("key_file must not lie in out, which it would lay open")
        return self


def deidentify(config: DeidentifyConfig, *, overwrite: bool = False) -> StageResult:
    """Write every image of ``config.sources`` without identifiers below ``config.out/images``.

    Every file ends in exactly one of written, skipped and quarantined, with a reason where it was
    not written. A run that was killed continues where it stopped; a later run adds what is new.

    Raises:
        InputError: a source or the key is missing.
        SourceError: a source cannot be asked, or something of it did not arrive; the rest is
            written.
        FolderError: the folder was made with another key, or is in use.
    """
    pseudonymizer = Pseudonymizer.from_key_file(config.key_file, create=config.create_key)
    refs, parcels = _listed(config, pseudonymizer)
    settings = _settings(config)
    unpacking = digest_json([settings, config.archive.model_dump(mode="json")])
    staging = Staging(config.out / "private", pseudonymizer, unpacking)
    deliveries = staging.deliveries(parcels)
    listing = [[ref.file_key, ref.bytes, ref.mtime_ns] for ref in refs]
    with open_stage(
        "deidentify",
        config.out,
        config,
        inputs={
            "files": digest_json(listing),
            "parcels": digest_json(sorted([each.key, each.stamp] for each in deliveries)),
            "key": pseudonymizer.key_id,
        },
        tracking=config.tracking,
        overwrite=overwrite,
        incremental=not overwrite,
    ) as run:
        if run.previous is not None:
            return run.previous
        claim_library(config.out, pseudonymizer.key_id)
        writer = Writer(
            config.out,
            _rules(config, pseudonymizer),
            settings=settings,
            deface_command=config.deface_command,
            workers=config.workers,
        )
        writer.write(refs, [path for path in map(Path, config.sources) if path.is_dir()])
        failed = _write_parcels(config, writer, staging, deliveries)
        writer.sweep()
        results = writer.results()
        _write_table(config.out / TABLE, results)
        if failed:
            raise SourceError(
                f"{len(failed)} of {len(deliveries)} parcels did not arrive; the rest is written",
                hint="run the same command again: it asks for those only",
            )
        return run.finish(
            summary=_summary(results),
            look_at={"what may leave": IMAGES, "what became of every file": TABLE},
            outputs={"files": digest_json(sorted(result.stamp for result in results))},
        )


def _listed(
    config: DeidentifyConfig, pseudonymizer: Pseudonymizer
) -> tuple[list[FileRef], list[ParcelSource]]:
    """Return the files that lie on this machine, and all that is to be fetched or unpacked."""
    found = [open_fetched(text, config) for text in config.sources]
    paths = [source for source in found if isinstance(source, Path)]
    refs = list_files(paths, pseudonymizer, skip=config.out) if paths else []
    plain, archives = set_apart(refs, paths, config.archive)
    return plain, [*archives, *(source for source in found if not isinstance(source, Path))]


def _settings(config: DeidentifyConfig) -> str:
    """Return what changes with all that makes other files of the same ones."""
    names = {"dates", "characteristics", "allow_faces", "deface_command"}
    return digest_json([VERSION, config.model_dump(mode="json", include=names)])


def _rules(config: DeidentifyConfig, pseudonymizer: Pseudonymizer) -> FileRules:
    return FileRules(
        pseudonymizer,
        Limits(config.max_volume_mib * 2**20),
        config.dates,
        config.characteristics,
        config.allow_faces,
    )


def _write_parcels(
    config: DeidentifyConfig, writer: Writer, staging: Staging, deliveries: Sequence[Delivery]
) -> list[Delivery]:
    """Write what is in ``deliveries`` and not done yet; return those that did not arrive."""
    ledger = Ledger(config.out)
    lost = {ledger.parcel_of.get(key) for key in writer.lost()}
    todo = [each for each in deliveries if not ledger.is_done(each) or each.key in lost]
    staging.sweep(keep=todo)
    failed: list[Delivery] = []
    for batch in staging.batches(todo, config.staging_gib, failed):
        writer.write([ref for staged in batch for ref in staged.refs], [staging.folder])
        for staged in batch:
            for ref, error in staged.refused:
                writer.refuse(ref, error)
            ledger.note(staged)
            staging.drop(staged.delivery)
    return failed


def _write_table(path: Path, results: Sequence[FileResult]) -> None:
    columns = ["outcome", "reason_code", "reason", "file_key", "name"]
    with atomic_path(path) as partial_path, partial_path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(
            asdict(row) | {"name": row.name if row.outcome == "written" else ""} for row in results
        )


def _summary(results: Sequence[FileResult]) -> dict[str, str | int | float | bool]:
    outcomes = Counter(result.outcome for result in results)
    names = [Path(result.name) for result in results if result.outcome == "written"]
    reasons = Counter(result.reason_code for result in results if result.reason_code)
    return {
        "files": len(results),
        "written": outcomes["written"],
        "skipped": outcomes["skipped"],
        "quarantined": outcomes["quarantined"],
        "patients": len({name.parts[0] for name in names}),
        "series": len({name.parent for name in names}),
        **{f"reason.{code}": count for code, count in reasons.most_common()},
    }
