"""One series, or one folder of DICOM files, to volumes on their own grid."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import InputError, RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.arrange import arrange
from medssl.io.dicom.checks import refuse_defects
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.lattice import Lattice, lay_out
from medssl.io.dicom.pixels import Stack, stack_pixels
from medssl.io.dicom.series import Part, Slices, group_by_series, split_by_kind
from medssl.io.dicom.slices import SliceHeader, paths_of
from medssl.io.dicom.stored import digester
from medssl.io.limits import Limits
from medssl.io.narrow import VoxelArray
from medssl.io.reasons import reject
from medssl.io.regularize import outside_value, refuse_too_large, resample_stack
from medssl.io.untrusted import silenced
from medssl.io.volume import Volume
from medssl.runs.workers import available_cores


@dataclass(frozen=True, kw_only=True)
class DicomVolume:
    """A volume made of DICOM slices; axes are (column, row, slice).

    The grid is that of the slices, unless ``volume.regularized`` says otherwise.
    """

    volume: Volume
    slices: tuple[SliceHeader, ...]
    """What was read, in the order of the third axis; their keys are pseudonyms. Which of them a
    slice of the volume shows, ``volume.slices`` tells."""
    flags: tuple[str, ...]
    suv_factor: float | None = None
    """What turned activity into standardised uptake, for a PET of which that is known."""
    split_by: tuple[str, ...] = ()
    """What tells it from the other volumes of its series, such as ``echo_ms=20``: numbers and
    words of a vocabulary."""

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


def read_series(
    series: Sequence[SliceHeader], limits: Limits, threads: int = 1
) -> Iterator[SeriesOutcome]:
    """Yield what becomes of the slices of one series: each ends in exactly one outcome.

    Up to ``threads`` slices are decoded at once; the outcomes do not depend on it.
    """
    try:
        kinds = split_by_kind(series)
    except RejectedFileError as error:
        yield RejectedSlices(slices=tuple(series), error=error)
        return
    for kind in kinds:
        yield from _read_kind(kind, limits, threads)


def read_dicom_folder(
    folder: Path, limits: Limits | None = None, *, threads: int | None = None
) -> list[DicomVolume]:
    """Return every volume in ``folder`` and below, with the files each was made of.

    Pseudonyms are made with a key that is thrown away: they group, and name nobody. Up to
    ``threads`` slices are decoded at once, by default one for each available core.

    Raises:
        InputError: when no volume can be read; it counts the reasons.
    """
    limits, pseudonymizer = limits or Limits(), Pseudonymizer.ephemeral()
    headers: list[SliceHeader] = []
    refused: list[RejectedFileError] = []
    volumes: list[DicomVolume] = []
    with silenced():
        for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
            key = pseudonymizer.file_key(str(path))
            try:
                headers += read_headers(path, key, pseudonymizer, limits)
            except RejectedFileError as error:
                refused.append(error)
        for _, series in sorted(group_by_series(headers).items(), key=lambda item: item[1][0].path):
            for outcome in read_series(series, limits, threads or available_cores()):
                if isinstance(outcome, DicomVolume):
                    volumes.append(outcome)
                else:
                    refused += [outcome.error] * len(paths_of(outcome.slices))
    if not volumes:
        raise InputError(f"no volume can be read from {folder}: {_counted(refused)}")
    return volumes


def _read_kind(kind: Part, limits: Limits, threads: int) -> Iterator[SeriesOutcome]:
    try:
        refuse_defects(kind.slices, limits)
        arranged = arrange(kind, digester(limits), limits.policy)
    except RejectedFileError as error:
        framed = _as_multiframe(error, kind.slices)
        yield RejectedSlices(slices=tuple(kind.slices), error=framed)
        return
    if arranged.copies:
        yield RejectedSlices(slices=tuple(arranged.copies), error=reject("duplicate_slice"))
    for part in arranged.incomplete:
        cut_short = reject("incomplete_volume", count=len(part.slices))
        yield RejectedSlices(slices=tuple(part.slices), error=cut_short)
    for stack in arranged.stacks:
        try:
            yield _read_stack(stack, limits, threads, copies=bool(arranged.copies))
        except RejectedFileError as error:
            yield RejectedSlices(slices=tuple(stack.slices), error=error)


def _read_stack(part: Part, limits: Limits, threads: int, *, copies: bool) -> DicomVolume:
    stack = part.slices
    lattice = lay_out(stack, limits)
    pixels = stack_pixels(stack, limits, threads)
    volume = Volume(
        array_IJK=_on_lattice(pixels, lattice, limits),
        affine_ras=lattice.affine_ras,
        modality=stack[0].modality,
        intensity=pixels.intensity,
        regularized=lattice.regularized,
        slices=lattice.sources,
    )
    noticed = {
        "derived": "DERIVED" in stack[0].image_type,
        "patient_unknown": not stack[0].keys.patient_known,
        "copies_dropped": copies,
    }
    flags = [
        *pixels.flags,
        *(f"{word}_resampled" for word in lattice.regularized),
        *(flag for flag, true in noticed.items() if true),
    ]
    return DicomVolume(
        volume=volume,
        slices=tuple(stack),
        flags=tuple(flags),
        suv_factor=pixels.suv_factor,
        split_by=part.told_by,
    )


def _on_lattice(pixels: Stack, lattice: Lattice, limits: Limits) -> VoxelArray:
    if lattice.plan is None:
        return pixels.array_IJK
    refuse_too_large(lattice.plan.shape, pixels.array_IJK.dtype, limits)
    outside = outside_value(pixels.array_IJK, pixels.intensity)
    return resample_stack(pixels.array_IJK, lattice.plan, outside)


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
