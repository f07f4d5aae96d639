"""From what a person writes as a source to what can be read: a path, or a list of parcels."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from medssl.config.base import Config
from medssl.errors import InputError
from medssl.io.sources.archive import ArchiveConfig
from medssl.io.sources.base import ParcelSource
from medssl.io.sources.dicomweb import DicomWebConfig, DicomWebSource
from medssl.io.sources.dimse import DimseConfig, DimseSource
from medssl.io.sources.query import Query
from medssl.io.sources.receiver import ReceiverConfig
from medssl.io.sources.remote import RemoteConfig, RemoteSource
from medssl.io.sources.scp import ScpSource

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.+-]+)://")


class SourceSettings(Config):
    """How sources that are no plain folders are read."""

    query: Query = Field(default_factory=dict)
    """Which series of a picture archive: DICOM keyword -> value, such as Modality: CT."""
    dicomweb: DicomWebConfig = DicomWebConfig()
    """How a web archive (dicomweb+https://) is asked."""
    dimse: DimseConfig = DimseConfig()
    """How an archive is asked by classic DICOM (dimse://)."""
    scp: ReceiverConfig = ReceiverConfig()
    """Whose images our own storage server (scp://) takes."""
    archive: ArchiveConfig = ArchiveConfig()
    """What a zip or tar file may ask for."""
    remote: RemoteConfig = RemoteConfig()
    """How object stores are asked."""
    staging_gib: Annotated[float, Field(gt=0)] = 50.0
    """How much of what is fetched may wait in the library to be converted."""


def is_address(text: str) -> bool:
    """Return whether ``text`` is an address (``scheme://``) and no path."""
    return _SCHEME.match(text) is not None


def open_source(
    text: str, settings: SourceSettings, inbox: Path, quiet_s: float
) -> Path | ParcelSource:
    """Return the path that ``text`` is, or the source whose address it is.

    Args:
        text: what a person wrote.
        settings: how sources are read.
        inbox: where a listener keeps what it receives.
        quiet_s: after so long without a new image, a received series is whole.

    Raises:
        InputError: the address is of a kind not read here.
        SourceError: the address, or what it needs, cannot be used.
    """
    found = _SCHEME.match(text)
    if found is None:
        return Path(text)
    scheme = found[1].lower()
    if scheme == "file":
        return Path(text.partition("://")[2])
    if scheme in ("dicomweb+http", "dicomweb+https"):
        return DicomWebSource(text, settings.dicomweb, settings.query)
    if scheme == "dimse":
        return DimseSource(text, settings.dimse, settings.query)
    if scheme == "scp":
        return ScpSource(text, settings.scp, inbox, quiet_s)
    if scheme in ("http", "https"):
        raise InputError(
            f"{scheme}:// is the address of a web page",
            hint=f"a DICOMweb archive is written dicomweb+{scheme}://",
        )
    return RemoteSource(text, settings.remote, settings.archive)
