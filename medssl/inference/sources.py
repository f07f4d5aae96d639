"""What ``medssl predict`` is pointed at: files and folders, archives, and addresses."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from medssl.errors import InputError, RejectedFileError
from medssl.io.dicom.read import read_dicom_folder
from medssl.io.nifti import read_nifti
from medssl.io.sources.archive import is_archive, is_archive_name, unpack
from medssl.io.sources.base import Parcel, ParcelSource, SourceError
from medssl.io.sources.folder import walk
from medssl.io.sources.opening import FetchSettings, is_address, open_fetched
from medssl.io.volume import Volume
from medssl.runs.digest import digest_file, digest_json

_NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file, folder, archive or address to predict."""

    number: int
    """Position among all sources, from 1: how records name it."""
    path: Path
    """Where it lies; of an address, nowhere."""
    stem: str
    """What output files are called after it: a NIfTI's own name, which several may share, or a
    number for others, which may be called after a patient."""
    remote: ParcelSource | None = field(default=None, repr=False)
    """What answers at an address."""
    parcels: tuple[Parcel, ...] = field(default=(), repr=False)
    """What there is at an address."""
    problem: str = ""
    """Why there is nothing."""

    @property
    def is_nifti(self) -> bool:
        """Whether it is one NIfTI file."""
        return is_nifti_name(self.path)

    @property
    def is_packed(self) -> bool:
        """Whether it is an archive, by its name or its content."""
        if self.is_nifti or not self.path.is_file():
            return False
        return is_archive_name(self.path.name) or is_archive(self.path)


def is_nifti_name(path: Path) -> bool:
    """Return whether a file is called as NIfTI files are."""
    return path.name.lower().endswith(_NIFTI)


def nifti_stem(path: Path) -> str:
    """Return the name of a NIfTI file without what says that it is one."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def find_sources(
    inputs: Sequence[Path | str], settings: FetchSettings | None = None
) -> list[Source]:
    """Return the sources of ``inputs``, in order; a folder of NIfTI files is one source per file.

    What does not exist is a source too: reading it fails, and is reported, like any other.

    Args:
        inputs: Paths, and addresses such as ``dicomweb+https://host/path``.
        settings: How addresses are asked, and what of them is wanted.

    Raises:
        InputError: An address is of a kind that is not read.
    """
    given = [_opened(text, settings or FetchSettings()) for text in inputs]
    expanded = [
        path for one in given for path in (_expand(one) if isinstance(one, Path) else [one])
    ]
    sources = []
    for number, found in enumerate(expanded, start=1):
        path = found if isinstance(found, Path) else Path()
        stem = nifti_stem(path) if is_nifti_name(path) else f"dicom_{number:03d}"
        source = Source(number=number, path=path, stem=stem)
        sources.append(source if isinstance(found, Path) else _listed(source, found))
    return sources


def read_source(source: Source, modality: str) -> list[Volume]:
    """Return the volumes of a NIfTI file or a folder of DICOM files, each on its native grid.

    A NIfTI does not say what it shows: it is taken for ``modality``.

    Raises:
        RejectedFileError: It is missing, damaged, or holds no volume.
    """
    refuse_missing(source)
    if source.is_nifti:
        return [read_nifti(source.path, modality=modality)]
    if source.path.is_file():
        raise RejectedFileError(
            "unknown_format", "neither a NIfTI file (.nii, .nii.gz) nor a folder of DICOM files"
        )
    try:
        return [found.volume for found in read_dicom_folder(source.path)]
    except InputError as error:
        said = error.problem.replace(str(source.path), "the folder")
        raise RejectedFileError("no_volume", said) from error


def refuse_missing(source: Source) -> None:
    """Raise RejectedFileError where there is nothing to read."""
    if source.problem:
        raise RejectedFileError("not_fetched", source.problem)
    if source.remote is None and not source.path.exists():
        raise RejectedFileError("missing", "there is no such file or folder")


@contextmanager
def at_hand(
    source: Source, room: Path, settings: FetchSettings
) -> Iterator[tuple[Path, list[RejectedFileError]]]:
    """Yield where the files of ``source`` lie, unpacked or fetched if need be, and what is missing.

    What was fetched is gone afterwards.

    Args:
        source: What to read.
        room: Folder for what is fetched; patients' files lie there meanwhile.
        settings: Limits of archives and of what may lie there.

    Raises:
        RejectedFileError: Nothing is there, or it does not arrive whole.
    """
    refuse_missing(source)
    if source.remote is None and not source.is_packed:
        yield source.path, []
        return
    with TemporaryDirectory(dir=room, prefix=".incoming-") as place:  # for its owner only
        folder = Path(place) / "files"
        folder.mkdir()
        if source.remote is None:
            refused = unpack(source.path, folder, settings.archive)
            yield folder, [part.error for part in refused]
        else:
            yield folder, _fetch(source, folder, settings)


def _fetch(source: Source, folder: Path, settings: FetchSettings) -> list[RejectedFileError]:
    missing = list[RejectedFileError]()
    for number, parcel in enumerate(source.parcels, start=1):
        place = folder / f"{number:04d}"
        place.mkdir()
        try:
            refused = source.remote.fetch(parcel, place) if source.remote else ()
        except SourceError as error:
            raise RejectedFileError("not_fetched", error.problem) from error
        missing += [part.error for part in refused or ()]
        if sum(path.stat().st_size for path in walk(folder)) > settings.staging_gib * 2**30:
            raise RejectedFileError(
                "too_much",
                f"more than {settings.staging_gib:g} GiB fit the query; narrow it, or raise "
                "staging_gib",
            )
    return missing


def digest_sources(sources: Sequence[Source]) -> str:
    """Return a digest of everything that would be read."""
    return digest_json(
        [
            [digest_file(path) for path in _files(source)]
            if source.remote is None
            else [[parcel.name, parcel.stamp] for parcel in source.parcels]
            for source in sources
        ]
    )


def _opened(text: Path | str, settings: FetchSettings) -> Path | ParcelSource:
    return (
        open_fetched(text, settings) if isinstance(text, str) and is_address(text) else Path(text)
    )


def _listed(source: Source, remote: ParcelSource) -> Source:
    try:
        parcels = tuple(sorted(remote.list_parcels(), key=lambda parcel: parcel.name))
    except SourceError as error:
        parcels, problem = (), error.problem
    else:
        problem = "" if parcels else "nothing there fits the query"
    return Source(
        number=source.number,
        path=source.path,
        stem=source.stem,
        remote=remote,
        parcels=parcels,
        problem=problem,
    )


def _expand(given: Path) -> Iterator[Path]:
    inside = sorted(path for path in given.iterdir() if path.is_file()) if given.is_dir() else []
    nifti = [path for path in inside if is_nifti_name(path)]
    yield from nifti or [given]


def _files(source: Source) -> list[Path]:
    if source.path.is_dir():
        return sorted(path for path in source.path.rglob("*") if path.is_file())
    return [source.path] if source.path.is_file() else []
