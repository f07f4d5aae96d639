"""What every picture archive has in common: a series is asked for until it is whole."""

import os
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

from pydantic import Field

from medssl.config.base import Config
from medssl.errors import RejectedFileError
from medssl.io.dicom.stream import has_preamble, open_dicom, read_dataset
from medssl.io.limits import Limits
from medssl.io.sources.base import Parcel, SourceError
from medssl.io.untrusted import untrusted

T = TypeVar("T")
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class TryAgainError(SourceError):
    """Something failed that may work a moment later."""


class UnreachableError(TryAgainError):
    """Nobody answers at the archive's address."""


class GoneError(SourceError):
    """Nobody answered there, to the last retry."""


class Patience(Config):
    """How long an archive that fails is asked again."""

    tries: Annotated[int, Field(ge=1)] = 6
    """Failures in a row, without anything new arriving, after which a series is given up."""
    first_wait_s: Annotated[float, Field(ge=0)] = 1.0
    """Pause after the first failure; it doubles with each further one."""
    total_s: Annotated[float, Field(gt=0)] = 600.0
    """The longest time without anything new arriving."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """A connection that stays silent for so long has failed."""


@dataclass(frozen=True)
class SeriesUid:
    """A series of an archive, and the study it is part of."""

    study: str = field(repr=False)
    series: str = field(repr=False)

    @classmethod
    def checked(cls, study: object, series: object) -> "SeriesUid":
        """Return the two as an archive gave them.

        Raises:
            SourceError: when they are no UIDs, or could not be part of a path.
        """
        return cls(checked_uid(study), checked_uid(series))

    @classmethod
    def of(cls, parcel: Parcel) -> "SeriesUid":
        """Return the series that ``parcel`` is."""
        return cls.checked(*parcel.name.split("/"))

    @property
    def name(self) -> str:
        """What the series is called as a parcel."""
        return f"{self.study}/{self.series}"


class SeriesFolder:
    """The instances of one series on disk: each in a file of its own, which is there or not."""

    def __init__(self, folder: Path, series: str) -> None:
        self._folder, self._series = folder, series
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Remove what an interrupted run left unfinished."""
        for part in self._folder.glob("*.part"):
            part.unlink()

    def held(self) -> set[str]:
        """Return the UIDs of the instances that are there."""
        return {path.stem for path in self._folder.glob("*.dcm")}

    def add(self, pieces: Iterable[bytes]) -> None:
        """Write one instance, and keep it if it turns out to be one of this series.

        Raises:
            SourceError: when it is something else.
            OSError: when the disk is full.
        """
        part = write_part(self._folder, pieces)
        try:
            found = identify_instance(part)
            if found.series != self._series:
                raise SourceError("the archive sent an image of another series than asked for")
            part.replace(self._folder / f"{found.instance}.dcm")
        finally:
            part.unlink(missing_ok=True)


class InstanceUid(NamedTuple):
    """Which image a file holds."""

    study: str
    series: str
    instance: str


def write_part(folder: Path, pieces: Iterable[bytes]) -> Path:
    """Return a new file ``.part`` in ``folder`` that holds ``pieces``, safe from a power cut."""
    part = folder / f"{uuid.uuid4().hex}.part"
    try:
        with part.open("xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part


def identify_instance(path: Path) -> InstanceUid:
    """Return which image is in a file that came from elsewhere.

    Raises:
        SourceError: when it is no DICOM object.
    """
    tags = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
    try:
        with untrusted("damaged_header"):
            if has_preamble(path):
                with open_dicom(path, Limits()) as stream:
                    found = read_dataset(stream, tags, pixels=False)
                    return InstanceUid(*(checked_uid(found.get(tag)) for tag in tags))
    except RejectedFileError:
        pass
    raise SourceError("the archive sent something that is no DICOM object")


def checked_uid(value: object) -> str:
    """Return ``value`` if it is fit to be a UID, and to be part of a path.

    Raises:
        SourceError: when it is not.
    """
    if not isinstance(value, str) or not _UID.fullmatch(value):
        raise SourceError("the archive named a study, series or image by what is no DICOM UID")
    return value


def as_count(value: object) -> int | None:
    """Return the number of images an archive states, or None where it states none.

    Raises:
        SourceError: when it is no number.
    """
    if value is None or value == "":
        return None
    text = str(value).strip()
    if not text.isdecimal():
        raise SourceError("the archive states the number of images of a series, but as no number")
    return int(text)


def persist(
    action: Callable[[], T], patience: Patience, progress: Callable[[], int] = lambda: 0
) -> T:
    """Return what ``action`` returns, trying again with growing pauses where that may help.

    Args:
        action: raises TryAgainError where it may.
        patience: how often and how long.
        progress: a number that grows when an attempt, though it failed, achieved something.

    Raises:
        GoneError: nobody answered.
        SourceError: any other last failure.
    """
    failures, reached, since = 0, progress(), time.monotonic()
    while True:
        try:
            return action()
        except TryAgainError as error:
            if progress() > reached:
                failures, reached, since = 0, progress(), time.monotonic()
            wait_s = patience.first_wait_s * 2**failures
            failures += 1
            if failures >= patience.tries or time.monotonic() - since + wait_s > patience.total_s:
                kind = GoneError if isinstance(error, UnreachableError) else SourceError
                raise kind(f"{error.problem} (tried {failures} times)", hint=error.hint) from None
        time.sleep(wait_s)


class PictureArchive(ABC):
    """The series of an archive that fit a query; each is a parcel ``study/series``."""

    patience: Patience
    _gone: GoneError | None = None

    @abstractmethod
    def series(self) -> Iterator[tuple[SeriesUid, int | None]]:
        """Yield the series that fit, and of how many images each is, where the archive tells."""

    @abstractmethod
    def instances(self, series: SeriesUid) -> set[str]:
        """Return the UIDs of the instances of ``series``."""

    @abstractmethod
    def retrieve(
        self, series: SeriesUid, missing: Sequence[str] | None, inbox: SeriesFolder
    ) -> None:
        """Add the instances ``missing`` to ``inbox``, or with None all of ``series``."""

    def list_parcels(self) -> Iterator[Parcel]:
        """Yield the series that fit the query.

        Raises:
            SourceError: the archive cannot be asked, or answers what cannot be.
        """
        self._gone = None
        for series, count in self.series():
            files = len(self.instances(series)) if count is None else count
            if files > 0:
                yield Parcel(series.name, stamp=str(files), files=files, bytes=None)

    def fetch(self, parcel: Parcel, folder: Path) -> None:
        """Bring every instance of ``parcel`` into ``folder``, one file each, as it is stored.

        What is there is not asked for again. An archive that cannot be reached for one series is
        not asked for another until it is listed again: with thousands, that would take days.

        Raises:
            SourceError: the archive contradicts itself, or some never arrive.
        """
        if self._gone is not None:
            raise self._gone
        try:
            self._fetch(parcel, folder)
        except GoneError as error:
            self._gone = error
            raise

    def _fetch(self, parcel: Parcel, folder: Path) -> None:
        series = SeriesUid.of(parcel)
        inbox = SeriesFolder(folder, series.series)
        inbox.sweep()
        listed = persist(lambda: self.instances(series), self.patience)
        if not listed or len(listed) < (parcel.files or 0):
            raise SourceError(
                f"the archive counts {parcel.files} images in a series and lists {len(listed)}",
                hint="it may still be receiving the series; run the same command again later",
            )

        first = iter([True])

        def bring_missing() -> None:
            if missing := listed - inbox.held():
                whole = next(first, False) and missing == listed  # what failed comes in pieces
                self.retrieve(series, None if whole else sorted(missing), inbox)
            if missing := listed - inbox.held():
                raise TryAgainError(
                    f"{len(listed) - len(missing)} of {len(listed)} images of a series arrived",
                    hint="run the same command again: it asks for the missing ones only",
                )

        persist(bring_missing, self.patience, progress=lambda: len(inbox.held()))
