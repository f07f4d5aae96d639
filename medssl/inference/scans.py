"""From a source to the scans that a model is for, one after the other, with what was left out."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import RejectedFileError
from medssl.inference.series import Wanted, choose
from medssl.inference.sources import Source, at_hand, is_nifti_name, nifti_stem
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.read import DicomVolume, read_series
from medssl.io.dicom.slices import SliceHeader
from medssl.io.limits import IrregularPolicy, Limits
from medssl.io.nifti import read_nifti
from medssl.io.sources.folder import walk
from medssl.io.sources.opening import FetchSettings
from medssl.io.untrusted import silenced
from medssl.io.volume import Volume
from medssl.runs.workers import available_cores


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One volume of a source."""

    volume: Volume
    stem: str
    """What files of it may be called after."""
    slices: tuple[SliceHeader, ...] = ()
    """Of DICOM: the slices it was read from, in the order of the third axis."""


Found = Scan | RejectedFileError


@dataclass(frozen=True, kw_only=True)
class ScanReader:
    """Reads sources for one model."""

    wanted: Wanted
    settings: FetchSettings
    limits: Limits
    room: Path
    """Folder for what is fetched."""

    def read(self, source: Source) -> Iterator[Found]:
        """Yield the scans of ``source`` that the model is for, and why others are not.

        Files of a scan lie where its slices say until the next one is asked for. Where there is no
        scan at all, every reason is a refusal and not something merely left out.
        """
        any_scan, reasons = False, list[RejectedFileError]()
        try:
            with at_hand(source, self.room, self.settings) as (path, missing):
                reasons += missing
                for found in self._inside(path, source.stem):
                    if isinstance(found, Scan):
                        any_scan = True
                        yield found
                    else:
                        reasons.append(found)
        except RejectedFileError as error:
            reasons.append(error)
        if not any_scan and not reasons:
            reasons = [RejectedFileError("no_volume", "there are no files in it")]
        yield from counted(reasons, refused=not any_scan)

    def _inside(self, path: Path, stem: str) -> Iterator[Found]:
        if path.is_file():
            yield self._nifti(path, stem) if is_nifti_name(path) else _no_format()
            return
        files = sorted(file for file in walk(path) if file.is_file())
        for file in filter(is_nifti_name, files):
            yield self._nifti(file, nifti_stem(file))
        yield from self._dicom([file for file in files if not is_nifti_name(file)], stem)

    def _nifti(self, path: Path, stem: str) -> Found:
        own_grid = IrregularPolicy(shear="quarantine")
        limits = Limits(self.limits.volume_bytes, self.limits.least_slices, own_grid)
        try:
            volume = read_nifti(path, self.wanted.modality, limits)
        except RejectedFileError as error:
            return error
        return Scan(volume=volume, stem=stem)

    def _dicom(self, files: Iterable[Path], stem: str) -> Iterator[Found]:
        pseudonymizer, headers = Pseudonymizer.ephemeral(), list[SliceHeader]()
        with silenced():
            for path in files:
                key = pseudonymizer.file_key(str(path))
                try:
                    headers += read_headers(path, key, pseudonymizer, self.limits)
                except RejectedFileError as error:
                    yield error
            for chosen in choose(headers, self.wanted):
                if isinstance(chosen, RejectedFileError):
                    yield chosen
                    continue
                for outcome in read_series(chosen, self.limits, available_cores()):
                    if isinstance(outcome, DicomVolume):
                        yield Scan(volume=outcome.volume, stem=stem, slices=outcome.slices)
                    else:
                        yield outcome.error


def counted(reasons: Iterable[RejectedFileError], *, refused: bool) -> Iterator[RejectedFileError]:
    """Yield every reason once, with how often it was given.

    Args:
        reasons: Of files, of series.
        refused: Whether none of them is merely left out.
    """
    for (code, problem, skipped), count in Counter(
        (error.code, error.problem, error.skipped) for error in reasons
    ).items():
        times = f" ({count} times)" if count > 1 else ""
        yield RejectedFileError(code, f"{problem}{times}", skipped=skipped and not refused)


def _no_format() -> RejectedFileError:
    return RejectedFileError(
        "unknown_format",
        "neither a NIfTI file (.nii, .nii.gz), an archive, nor a folder of DICOM files",
    )
