"""One series, or one folder of DICOM files, to volumes on their own grid."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import InputError, RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.checks import refuse_defects, stack_affine
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.pixels import digester, stack_pixels
from medssl.io.dicom.series import Slices, arrange, group_by_series, split_by_kind
from medssl.io.dicom.slices import SliceHeader, paths_of
from medssl.io.limits import Limits
from medssl.io.reasons import reject
from medssl.io.volume import Volume


@dataclass(frozen=True, kw_only=True)
class DicomVolume:
    """A volume made of DICOM slices; axes are (column, row, slice), the slices' own grid."""

    volume: Volume
    slices: tuple[SliceHeader, ...]
    """In the order of the third axis; their keys are pseudonyms."""
    flags: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it was read from, each once."""
        return tuple(paths_of(self.slices))


@dataclass(frozen=True, kw_only=True)
class RejectedSlices:
    """Slices that did not become a volume, and why."""

    slices: tuple[SliceHeader, ...]
    error: RejectedFileError


SeriesOutcome = DicomVolume | RejectedSlices


def read_series(series: Sequence[SliceHeader], limits: Limits) -> Iterator[SeriesOutcome]:
    """Yield what becomes of the slices of one series: each ends in exactly one outcome."""
    try:
        kinds = split_by_kind(series)
    except RejectedFileError as error:
        yield RejectedSlices(slices=tuple(series), error=error)
        return
    for kind in kinds:
        yield from _read_kind(kind, limits)


def read_dicom_folder(folder: Path, limits: Limits | None = None) -> list[DicomVolume]:
    """Return every volume in ``folder`` and below, with the files each was made of.

    Pseudonyms are made with a key that is thrown away: they group, and name nobody.

    Raises:
        InputError: when no volume can be read; it counts the reasons.
    """
    limits, pseudonymizer = limits or Limits(), Pseudonymizer.ephemeral()
    headers: list[SliceHeader] = []
    refused: list[RejectedFileError] = []
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        try:
            headers += read_headers(path, pseudonymizer.file_key(str(path)), pseudonymizer, limits)
        except RejectedFileError as error:
            refused.append(error)
    volumes: list[DicomVolume] = []
    for _, series in sorted(group_by_series(headers).items(), key=lambda item: item[1][0].path):
        for outcome in read_series(series, limits):
            if isinstance(outcome, DicomVolume):
                volumes.append(outcome)
            else:
                refused += [outcome.error] * len(paths_of(outcome.slices))
    if not volumes:
        raise InputError(f"no volume can be read from {folder}: {_counted(refused)}")
    return volumes


def _read_kind(kind: Slices, limits: Limits) -> Iterator[SeriesOutcome]:
    try:
        refuse_defects(kind, limits)
        arranged = arrange(kind, digester(limits))
    except RejectedFileError as error:
        yield RejectedSlices(slices=tuple(kind), error=_as_multiframe(error, kind))
        return
    if arranged.copies:
        yield RejectedSlices(slices=tuple(arranged.copies), error=reject("duplicate_slice"))
    for stack in arranged.stacks:
        try:
            yield _read_stack(stack, limits, copies=bool(arranged.copies))
        except RejectedFileError as error:
            yield RejectedSlices(slices=tuple(stack), error=error)


def _read_stack(stack: Slices, limits: Limits, *, copies: bool) -> DicomVolume:
    affine_ras = stack_affine(stack, limits)
    pixels = stack_pixels(stack, limits)
    volume = Volume(
        array_IJK=pixels.array_IJK,
        affine_ras=affine_ras,
        modality=stack[0].modality,
        intensity=pixels.intensity,
        slices=tuple(header.source for header in stack),
    )
    noticed = {
        "derived": "DERIVED" in stack[0].image_type,
        "patient_unknown": not stack[0].keys.patient_known,
        "copies_dropped": copies,
    }
    flags = [*pixels.flags, *(flag for flag, true in noticed.items() if true)]
    return DicomVolume(volume=volume, slices=tuple(stack), flags=tuple(flags))


def _as_multiframe(error: RejectedFileError, kind: Slices) -> RejectedFileError:
    """Say of frames nobody can tell apart that the file is beyond what is read here."""
    unclear = error.code in ("ambiguous_positions", "coincident_positions")
    framed = any(header.frame_index is not None for header in kind)
    return reject("multiframe_unsupported") if unclear and framed else error


def _counted(refused: Sequence[RejectedFileError]) -> str:
    if not refused:
        return "it holds no files"
    sentence_of = {error.code: error.problem for error in refused}
    codes = [error.code for error in refused]
    most = max(sorted(sentence_of), key=codes.count)
    return f"{len(codes)} file(s) were refused, mostly {most} ({sentence_of[most]})"
