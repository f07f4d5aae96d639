"""One item to volumes in the library; runs in a worker process and touches nothing shared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medssl.errors import RejectedFileError
from medssl.ingest.describe import Origin, catalog_row
from medssl.ingest.items import DicomItem, Item, ItemResult, NiftiItem
from medssl.ingest.measure import store_measured
from medssl.io import deidentify
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.acquisition import agreed
from medssl.io.dicom.read import RejectedSlices, SeriesOutcome, read_series
from medssl.io.dicom.slices import SliceHeader
from medssl.io.limits import Limits
from medssl.io.nifti import NiftiVolume, read_nifti_volumes
from medssl.io.ocr import shows_text
from medssl.io.reasons import reject
from medssl.io.sources.folder import FileRef
from medssl.io.untrusted import silenced, untrusted
from medssl.io.volume import Volume
from medssl.library.outcomes import FileOutcome
from medssl.runs.digest import digest_file, digest_json

CONVERSION_VERSION = 3
"""Part of every item's signature: raise it when the same file would become another volume."""

_RANK = {"converted": 0, "quarantined": 1, "skipped": 2}


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What a worker needs beside the item."""

    library: Path
    pseudonymizer: Pseudonymizer
    limits: Limits
    ocr: bool = False
    """Refuse scans that show text."""
    threads: int = 1
    """How many cores one item may use."""


def conversion_settings(limits: Limits, *, ocr: bool) -> list[object]:
    """Return the settings that make another volume of the same file."""
    policy = limits.policy.model_dump(mode="json")
    return [limits.volume_bytes, limits.least_slices, policy, ocr]


def convert(conversion: Conversion, item: Item) -> ItemResult:
    """Write the volumes of ``item`` and return what became of each of its files.

    Every file gets an outcome; only a bug or a full disk raises.
    """
    with silenced():
        match item:
            case DicomItem():
                return _convert_series(conversion, item)
            case NiftiItem():
                return _convert_nifti(conversion, item)
    raise TypeError(f"no way to convert {type(item).__name__}")


def crashed(item: Item) -> ItemResult:
    """Return the result of an item whose conversion killed its worker."""
    error = reject("decoder_crashed")
    source_format = "dicom" if isinstance(item, DicomItem) else "nifti"
    files = tuple(rejected(ref, error, source_format) for ref in item.files)
    return ItemResult(key=item.key, signature=item.signature, files=files, volumes=())


def rejected(ref: FileRef, error: RejectedFileError, source_format: str) -> FileOutcome:
    """Return the row of a file that did not become a volume."""
    return FileOutcome(
        file_key=ref.file_key,
        outcome="skipped" if error.skipped else "quarantined",
        reason_code=error.code,
        reason=error.problem,
        bytes=ref.bytes,
        source_format=source_format,
        stamp=ref.stamp,
    )


def _convert_series(conversion: Conversion, item: DicomItem) -> ItemResult:
    refs = {ref.file_key: ref for ref in item.files}
    outcomes: list[FileOutcome] = []
    volumes: list[dict[str, Any]] = []
    for outcome in read_series(item.headers, conversion.limits, conversion.threads):
        keys = dict.fromkeys(header.file_key for header in outcome.slices)
        try:
            row = _store_dicom(conversion, outcome)
        except RejectedFileError as error:
            outcomes += [rejected(refs[key], error, "dicom") for key in keys]
            continue
        volumes.append(row)
        outcomes += [_converted(refs[key], row["volume_key"], "dicom") for key in keys]
    files = tuple(_one_per_file(outcomes))
    return ItemResult(key=item.key, signature=item.signature, files=files, volumes=tuple(volumes))


def _store_dicom(conversion: Conversion, found: SeriesOutcome) -> dict[str, Any]:
    if isinstance(found, RejectedSlices):
        raise found.error
    _refuse_text(conversion, found.volume, as_stored=True)
    first = found.slices[0]
    instances = sorted(f"{h.keys.instance}/{h.frame_index}" for h in found.slices)
    volume_key = conversion.pseudonymizer.volume_key(first.keys.series, *instances)
    measured = store_measured(
        conversion.library,
        volume_key,
        found.volume,
        lambda: _content_key(conversion, found.files),
        conversion.threads,
    )
    origin = Origin(
        source_format="dicom",
        source_files=len(found.files),
        body_part=_agreed(found.slices),
        image_type=deidentify.image_type(first.image_type),
        acquisition=agreed([header.acquisition for header in found.slices]),
        suv_factor=found.suv_factor,
        split_by=found.split_by,
        flags=found.flags,
    )
    return catalog_row(volume_key, first.keys, measured, origin)


def _convert_nifti(conversion: Conversion, item: NiftiItem) -> ItemResult:
    """Convert every volume of the file, or none: a damaged end shows after the last."""
    (ref,) = item.files
    try:
        file_digest = _content_key(conversion, [ref.path])
        volumes = read_nifti_volumes(ref.path, item.modality, conversion.limits)
        rows = [_store_nifti(conversion, item, found, file_digest) for found in volumes]
    except RejectedFileError as error:
        files = (rejected(ref, error, "nifti"),)
        return ItemResult(key=item.key, signature=item.signature, files=files, volumes=())
    return ItemResult(
        key=item.key,
        signature=item.signature,
        files=(_converted(ref, rows[0]["volume_key"], "nifti"),),
        volumes=tuple(rows),
    )


def _store_nifti(
    conversion: Conversion, item: NiftiItem, found: NiftiVolume, file_digest: str
) -> dict[str, Any]:
    _refuse_text(conversion, found.volume, as_stored=False)
    volume_key = conversion.pseudonymizer.volume_key(item.keys.instance, *found.split_by)
    measured = store_measured(
        conversion.library, volume_key, found.volume, lambda: file_digest, conversion.threads
    )
    unknown = () if item.keys.patient_known else ("patient_unknown",)
    origin = Origin(
        source_format="nifti",
        source_files=1,
        split_by=found.split_by,
        flags=(*found.flags, *unknown),
    )
    return catalog_row(volume_key, item.keys, measured, origin)


def _refuse_text(conversion: Conversion, volume: Volume, *, as_stored: bool) -> None:
    if conversion.ocr and shows_text(volume, as_stored=as_stored):
        raise reject("burned_in_text")


def _converted(ref: FileRef, volume_key: str, source_format: str) -> FileOutcome:
    return FileOutcome(
        file_key=ref.file_key,
        outcome="converted",
        volume_key=volume_key,
        bytes=ref.bytes,
        source_format=source_format,
        stamp=ref.stamp,
    )


def _one_per_file(outcomes: Sequence[FileOutcome]) -> Iterator[FileOutcome]:
    """Yield one row per file: a multi-frame file may be part of several stacks.

    Where one stack was converted and another was not, the row tells of both.
    """
    ranked = sorted(outcomes, key=lambda row: _RANK[row.outcome])  # stable: the first stack stays
    refused = {row.file_key: row for row in reversed(ranked) if row.outcome != "converted"}
    for file_key, row in {row.file_key: row for row in reversed(ranked)}.items():
        why = refused.get(file_key, row)
        yield replace(row, reason_code=why.reason_code, reason=why.reason)


def _content_key(conversion: Conversion, paths: Sequence[Path]) -> str:
    """Return a keyed digest of the files' bytes: equal for an exact copy under other names."""
    with untrusted("unreadable_file"):
        digests = sorted(digest_file(path) for path in paths)
    return conversion.pseudonymizer.content_key(digest_json(digests))


def _agreed(slices: Sequence[SliceHeader]) -> str:
    """Return the body part that every slice names, else ""."""
    named = {header.body_part for header in slices}
    return named.pop() if len(named) == 1 else ""
