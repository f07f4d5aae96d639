"""From what a person writes as a source to what can be read: a path, or a list of parcels."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from medssl.config.base import Config
from medssl.errors import InputError
from medssl.io.sources.archive import ArchiveConfig, ArchiveSource, is_archive, is_archive_name
from medssl.io.sources.base import ParcelSource
from medssl.io.sources.dicomweb import DicomWebConfig, DicomWebSource
from medssl.io.sources.dimse import DimseConfig, DimseSource
from medssl.io.sources.folder import FileRef, absolute
from medssl.io.sources.query import Query
from medssl.io.sources.receiver import ReceiverConfig
from medssl.io.sources.remote import RemoteConfig, RemoteSource
from medssl.io.sources.scp import ScpSource

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.+-]+)://")


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


Source = Annotated[str, BeforeValidator(_as_text)]
"""What a person writes as a source: a path, or an address."""


class FetchSettings(Config):
    """How sources that are no plain folders are read."""

    query: Query = Field(default_factory=dict)
    """Which series of a picture archive: DICOM keyword -> value, such as Modality: CT."""
    dicomweb: DicomWebConfig = DicomWebConfig()
    """How a web archive (dicomweb+https://) is asked."""
    dimse: DimseConfig = DimseConfig()
    """How an archive is asked by classic DICOM (dimse://)."""
    archive: ArchiveConfig = ArchiveConfig()
    """What a zip or tar file may ask for."""
    remote: RemoteConfig = RemoteConfig()
    """How object stores are asked."""
    staging_gib: Annotated[float, Field(gt=0)] = 50.0
    """How much of what is fetched may wait on the disk until its turn comes."""


class SourceSettings(FetchSettings):
    """The same, where others may send too."""

    scp: ReceiverConfig = ReceiverConfig()
    """Whose images our own storage server (scp://) takes."""


def is_address(text: str) -> bool:
    """Return whether ``text`` is an address (``scheme://``) and no path."""
    return _scheme(text) != ""


def open_source(
    text: str, settings: SourceSettings, inbox: Path, quiet_s: float
) -> Path | ParcelSource:
    """Return what ``open_fetched`` does, or a listener.

    Args:
        text: what a person wrote.
        settings: how sources are read.
        inbox: where a listener keeps what it receives.
        quiet_s: after so long without a new image, a received series is whole.

    Raises:
        InputError: the address is of a kind not read here.
        SourceError: the address, or what it needs, cannot be used.
    """
    if _scheme(text) == "scp":
        return ScpSource(text, settings.scp, inbox, quiet_s)
    return open_fetched(text, settings)


def open_fetched(text: str, settings: FetchSettings) -> Path | ParcelSource:
    """Return the path that ``text`` is, or the source whose address it is.

    Raises:
        InputError: the address is of a kind not read here.
        SourceError: the address, or what it needs, cannot be used.
    """
    scheme = _scheme(text)
    if scheme in ("", "file"):
        return Path(text.partition("://")[2] if scheme else text)
    if scheme in ("dicomweb+http", "dicomweb+https"):
        return DicomWebSource(text, settings.dicomweb, settings.query)
    if scheme == "dimse":
        return DimseSource(text, settings.dimse, settings.query)
    if scheme == "scp":
        raise InputError(
            "an scp:// address waits for others to send, which only `ingest --follow` does",
            hint="have them send into a folder (with DCMTK's storescp, for one), and name that",
        )
    if scheme in ("http", "https"):
        raise InputError(
            f"{scheme}:// is the address of a web page",
            hint=f"a DICOMweb archive is written dicomweb+{scheme}://",
        )
    return RemoteSource(text, settings.remote, settings.archive)


def _scheme(text: str) -> str:
    found = _SCHEME.match(text)
    return found[1].lower() if found else ""


def set_apart(
    refs: Iterable[FileRef],
    given: Iterable[Path],
    config: ArchiveConfig,
    exclude: Sequence[str] = (),
) -> tuple[list[FileRef], list[ArchiveSource]]:
    """Return the plain files among ``refs``, and the archives among them as sources.

    Args:
        refs: files of this machine.
        given: the sources they were found in; a file that is one itself need not be named like
            an archive to be taken for one.
        config: limits of what an archive may ask for.
        exclude: globs; an archive that fits one is not opened.
    """
    named = {absolute(path) for path in given}
    plain: list[FileRef] = []
    archives: dict[str, dict[str, Path]] = defaultdict(dict)
    for ref in refs:
        packed = is_archive_name(ref.name) or (ref.path in named and is_archive(ref.path))
        if packed and not ref.matches(exclude):
            archives[ref.label][ref.name] = ref.path
        else:
            plain.append(ref)
    return plain, [ArchiveSource(label, members, config) for label, members in archives.items()]
