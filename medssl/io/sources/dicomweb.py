"""Archives on the web (DICOMweb): QIDO-RS says what there is, WADO-RS brings it."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydicom.datadict import tag_for_keyword

from medssl.config.base import Config
from medssl.io.sources.base import SourceError
from medssl.io.sources.encryption import TlsFiles
from medssl.io.sources.multipart import Multipart, media_type
from medssl.io.sources.query import SERIES_COUNT, of_series, of_study
from medssl.io.sources.retrieval import (
    Patience,
    PictureArchive,
    SeriesFolder,
    SeriesUid,
    as_count,
    checked_uid,
    persist,
)
from medssl.io.sources.web import Login, TokenFile, UnacceptableError, WebSession, unexpected

_CHUNK_BYTES = 2**16
_DICOM = "application/dicom"
_AS_STORED = f'multipart/related; type="{_DICOM}"; transfer-syntax=*'
_DEFAULT = f'multipart/related; type="{_DICOM}"'


class DicomWebConfig(Config):
    """How a web archive is asked."""

    token_file: Path | None = None
    """File with the access token, readable by its owner only (chmod 600). It is read again when
    the archive no longer accepts what it held."""
    login: Login = "bearer"
    """What the token file holds: a token (bearer), or user:password (basic)."""
    tls: TlsFiles = TlsFiles()
    """Certificates of an https address."""
    page: Annotated[int, Field(ge=1)] = 100
    """How many results are asked for at a time."""
    patience: Patience = Patience()
    """When to give up."""


def open_session(url: str, config: DicomWebConfig) -> WebSession:
    """Return a session with the service at ``dicomweb+https://host/path``; nothing is sent yet.

    Raises:
        SourceError: the address, the token or a certificate cannot be used.
    """
    address = url.rstrip("/")
    if "@" in address:
        raise SourceError(
            "an address with a user name and password in it would be shown and kept",
            hint="put user:password into a file; set dicomweb.token_file, dicomweb.login=basic",
        )
    if "?" in address or "#" in address:
        raise SourceError(
            "the address of an archive is its service's alone, without a query",
            hint="what follows the ? belongs into `query`, a secret into dicomweb.token_file",
        )
    token = None if config.token_file is None else TokenFile(config.token_file, config.login)
    return WebSession(
        address.removeprefix("dicomweb+"),
        tls=config.tls,
        token=token,
        timeout_s=config.patience.timeout_s,
    )


class DicomWebSource(PictureArchive):
    """A picture archive on the web."""

    def __init__(self, url: str, config: DicomWebConfig, query: Mapping[str, str]) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            url: ``dicomweb+https://host/path``; the path of the service, as in /dicom-web.
            config: how to ask.
            query: which series, by DICOM keyword.

        Raises:
            SourceError: the token or a certificate cannot be used.
        """
        self.label = url.rstrip("/")
        self._config, self._query, self.patience = config, query, config.patience
        self._web = open_session(url, config)
        self._accept = _AS_STORED

    def series(self) -> Iterator[tuple[SeriesUid, int | None]]:
        """Yield the series that fit the query, and how many images the archive counts in each."""
        for study, _ in self._rows("studies", "StudyInstanceUID", of_study(self._query)):
            path, wanted = f"studies/{study}/series", of_series(self._query)
            for uid, row in self._rows(path, "SeriesInstanceUID", wanted):
                yield SeriesUid(study, uid), as_count(_value(row, SERIES_COUNT))

    def instances(self, series: SeriesUid) -> set[str]:
        """Return the UIDs of the instances of ``series``."""
        path = f"studies/{series.study}/series/{series.series}/instances"
        return {uid for uid, _ in self._rows(path, "SOPInstanceUID", {})}

    def retrieve(
        self, series: SeriesUid, missing: Sequence[str] | None, inbox: SeriesFolder
    ) -> None:
        """Add instances to ``inbox`` while they arrive."""
        path = f"studies/{series.study}/series/{series.series}"
        for part in [path] if missing is None else [f"{path}/instances/{uid}" for uid in missing]:
            try:
                self._receive(part, inbox)
            except UnacceptableError:
                if self._accept == _DEFAULT:
                    raise
                self._accept = _DEFAULT  # an older archive, to which a syntax of * means nothing
                self._receive(part, inbox)

    def _receive(self, path: str, inbox: SeriesFolder) -> None:
        with self._web.get(path, self._accept) as answer:
            found, boundary = media_type(answer.headers.get("Content-Type", ""))
            chunks = answer.iter_content(_CHUNK_BYTES)
            if found == _DICOM:
                inbox.add(chunks)
                return
            if not found.startswith("multipart/") or boundary is None:
                raise unexpected(answer)
            for kind, content in Multipart(chunks, boundary).parts():
                if kind != _DICOM:
                    raise SourceError("a part of the archive's answer is no DICOM object")
                inbox.add(content)

    def _rows(
        self, path: str, uid: str, query: Mapping[str, str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield every result with its UID, page by page, until a page brings nothing new.

        A short page does not mean the end: archives have limits of their own.
        """
        seen: set[str] = set()
        new: dict[str, dict[str, Any]] | None = None
        asked = 0
        while new is None or new:
            page = {"fuzzymatching": "false", "limit": str(self._config.page), "offset": str(asked)}
            ask = partial(self._web.json, path, {**query, **page})
            rows = persist(ask, self.patience)
            asked += len(rows)
            new = {checked_uid(_value(row, uid)): row for row in rows}
            new = {key: row for key, row in new.items() if key not in seen}
            yield from new.items()
            seen |= new.keys()


def _value(row: Mapping[str, Any], keyword: str) -> Any:
    """Return the first value of ``keyword`` in a row of DICOM JSON, or None."""
    element = row.get(f"{tag_for_keyword(keyword):08X}")
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None
