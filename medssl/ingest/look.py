"""What single files are, by their content and header; in workers, where there are many files."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from medssl.errors import RejectedFileError
from medssl.ingest.convert import rejected
from medssl.io.deidentify import Pseudonymizer, ScanKeys
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.slices import SliceHeader
from medssl.io.identify import identify
from medssl.io.limits import Limits
from medssl.io.reasons import reject
from medssl.io.sources.folder import FileRef
from medssl.io.untrusted import silenced
from medssl.library.outcomes import FileOutcome
from medssl.runs.progress import task
from medssl.runs.workers import INLINE, map_unordered

BIDS_PATIENT = r"(?:^|/)(?P<patient>sub-[A-Za-z0-9]+)"

_FEW_FILES = 1000
"""Processes take as long to start as so many headers take to read."""
_FILES_AT_ONCE = 250


@dataclass(frozen=True, kw_only=True)
class NiftiLabels:
    """What NIfTI files do not say of themselves, taken from their names."""

    patient: re.Pattern[str]
    modalities: Mapping[str, str]

    def modality(self, ref: FileRef) -> str:
        """Return the modality of the first glob that fits, else "unknown"."""
        fitting = (modality for glob, modality in self.modalities.items() if ref.matches([glob]))
        return next(fitting, "unknown")

    def keys(self, ref: FileRef, pseudonymizer: Pseudonymizer) -> ScanKeys:
        """Return the pseudonyms of ``ref``; a file without a patient stands for its own."""
        found = self.patient.search(ref.name)
        patient = found["patient"] if found else ref.file_key
        issuer = "file name" if found else "the file stands for its patient"
        return ScanKeys(
            patient=pseudonymizer.patient_key(patient, issuer),
            study=pseudonymizer.study_key(f"{patient}/{PurePosixPath(ref.name).parent}"),
            series=pseudonymizer.series_key(ref.file_key),
            instance=ref.file_key,
            patient_known=found is not None,
        )


@dataclass(frozen=True, kw_only=True)
class Looking:
    """What is needed beside the file."""

    pseudonymizer: Pseudonymizer
    limits: Limits
    exclude: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What a file is: slices, or a NIfTI file, or refused."""

    headers: tuple[SliceHeader, ...] = ()
    is_nifti: bool = False
    refused: FileOutcome | None = None


def look_into_all(
    looking: Looking, refs: Sequence[FileRef], workers: int | str
) -> Iterator[tuple[FileRef, Seen]]:
    """Yield every file with what it is, in order; many files are read by several processes.

    On a cluster this is done here: to wait for its machines twice would cost more.
    """
    with task("Reading headers", len(refs)) as work:
        if isinstance(workers, str) or workers == 1 or len(refs) < _FEW_FILES:
            with silenced():
                for ref in refs:
                    yield ref, _look(looking, ref)
                    work.advance()
            return
        lots = [
            (start, refs[start : start + _FILES_AT_ONCE])
            for start in range(0, len(refs), _FILES_AT_ONCE)
        ]
        look, done = partial(_look_into_lot, looking), {}
        for start, seen in map_unordered(look, lots, workers=workers, crashed=look):
            done[start] = seen
            work.advance(len(seen))
    for start, lot in lots:
        yield from zip(lot, done.pop(start), strict=True)


def look_into(looking: Looking, refs: Sequence[FileRef]) -> list[tuple[FileRef, Seen]]:
    """Return what each of ``refs`` is."""
    return list(look_into_all(looking, refs, INLINE))


def _look_into_lot(looking: Looking, lot: tuple[int, Sequence[FileRef]]) -> tuple[int, list[Seen]]:
    start, refs = lot
    with silenced():
        return start, [_look(looking, ref) for ref in refs]


def _look(looking: Looking, ref: FileRef) -> Seen:
    source_format = ""
    try:
        if ref.matches(looking.exclude):
            raise reject("excluded")
        source_format = identify(ref.path)
        if source_format == "nifti":
            return Seen(is_nifti=True)
        headers = read_headers(ref.path, ref.file_key, looking.pseudonymizer, looking.limits)
    except RejectedFileError as error:
        known = "" if error.code == "not_dicom" else source_format
        return Seen(refused=rejected(ref, error, known))
    return Seen(tuple(headers))
