"""What ``medssl predict`` is pointed at: NIfTI files, and folders of DICOM or NIfTI files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import InputError, RejectedFileError
from medssl.io.dicom.read import read_dicom_folder
from medssl.io.dicom.slices import SliceHeader
from medssl.io.nifti import read_nifti
from medssl.io.volume import Volume
from medssl.runs.digest import digest_file, digest_json

_NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file or folder to predict."""

    number: int
    """Position among all sources, from 1: how records name it."""
    path: Path
    stem: str
    """What output files are called after it: a NIfTI's own name, a number for DICOM, whose
    folder may be called after a patient."""

    @property
    def is_nifti(self) -> bool:
        """Whether it is one NIfTI file."""
        return self.path.name.lower().endswith(_NIFTI)


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One volume of a source."""

    volume: Volume
    slices: tuple[SliceHeader, ...] = ()
    """Of DICOM: the slices it was read from, in the order of the third axis."""


def find_sources(inputs: Sequence[Path]) -> list[Source]:
    """Return the sources of ``inputs``, in order; a folder of NIfTI files is one source per file.

    What does not exist is a source too: reading it fails, and is reported, like any other.
    """
    paths = [path for given in inputs for path in _expand(given)]
    sources, taken = [], dict[str, int]()
    for number, path in enumerate(paths, start=1):
        source = Source(number=number, path=path, stem="")
        stem = _without_suffix(path) if source.is_nifti else f"dicom_{number:03d}"
        taken[stem] = taken.get(stem, 0) + 1
        if taken[stem] > 1:  # the same file name in two folders
            stem = f"{stem}_{taken[stem]}"
        sources.append(Source(number=number, path=path, stem=stem))
    return sources


def read_source(source: Source, modality: str) -> list[Volume]:
    """Return the volumes of ``source``; see ``read_scans``."""
    return [scan.volume for scan in read_scans(source, modality)]


def read_scans(source: Source, modality: str) -> list[Scan]:
    """Return the volumes of ``source``, each on its native grid, and what they were read from.

    A NIfTI does not say what it shows: it is taken for ``modality``.

    Raises:
        RejectedFileError: It is missing, damaged, or holds no volume.
    """
    if not source.path.exists():
        raise RejectedFileError("missing", "there is no such file or folder")
    if source.is_nifti:
        return [Scan(volume=read_nifti(source.path, modality=modality))]
    if source.path.is_file():
        raise RejectedFileError(
            "unknown_format", "neither a NIfTI file (.nii, .nii.gz) nor a folder of DICOM files"
        )
    try:
        found = read_dicom_folder(source.path)
    except InputError as error:
        said = error.problem.replace(str(source.path), "the folder")
        raise RejectedFileError("no_volume", said) from error
    return [Scan(volume=each.volume, slices=each.slices) for each in found]


def digest_sources(sources: Sequence[Source]) -> str:
    """Return a digest of everything that would be read."""
    return digest_json([[digest_file(path) for path in _files(source)] for source in sources])


def _expand(given: Path) -> Iterator[Path]:
    inside = sorted(path for path in given.iterdir() if path.is_file()) if given.is_dir() else []
    nifti = [path for path in inside if path.name.lower().endswith(_NIFTI)]
    yield from nifti or [given]


def _files(source: Source) -> list[Path]:
    if source.path.is_dir():
        return sorted(path for path in source.path.rglob("*") if path.is_file())
    return [source.path] if source.path.is_file() else []


def _without_suffix(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
