"""What every source but a plain folder is: a list of parcels that are fetched one by one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from medssl.errors import MedSSLError, RejectedFileError


class SourceError(MedSSLError):
    """A source cannot be listed, or a parcel does not arrive whole, after every retry."""


@dataclass(frozen=True)
class Parcel:
    """What is fetched, converted and noted as done together: a series, an archive, a folder."""

    name: str = field(repr=False)
    """Its path within the source; private."""
    stamp: str
    """Changes when the content does: a number of images, an entity tag, size and time."""
    files: int | None
    """How many files it must bring; None where the source does not tell."""
    bytes: int | None
    """How much disk it needs; None where the source does not tell."""


@dataclass(frozen=True)
class Refused:
    """A part of a parcel that was not fetched on purpose, such as a member of a zip bomb."""

    name: str = field(repr=False)
    """Its path within the parcel; "" for the parcel itself."""
    error: RejectedFileError
    bytes: int = 0


def half_file(folder: Path) -> Path:
    """Return where a file of ``folder`` is written at first: beside it, out of any name's way."""
    return folder.with_name(f"{folder.name}.part")


class ParcelSource(Protocol):
    """Where parcels come from."""

    label: str
    """Stays the same from run to run, and holds no credentials: part of the file keys."""

    def list_parcels(self) -> Iterable[Parcel]:
        """Return what there is.

        Raises:
            SourceError: the source cannot be asked.
        """

    def fetch(self, parcel: Parcel, folder: Path) -> Sequence[Refused] | None:
        """Put the files of ``parcel`` below ``folder``, each whole or not at all.

        A file is written elsewhere and renamed; what an interrupted fetch left is kept.

        Returns:
            What was left out on purpose, if anything.

        Raises:
            SourceError: the parcel did not arrive whole, after every retry.
        """


@runtime_checkable
class Listener(ParcelSource, Protocol):
    """A source that is sent things, and keeps them until they are in the library."""

    def start(self) -> None:
        """Listen.

        Raises:
            SourceError: it cannot.
        """

    def stop(self) -> None:
        """Stop listening; what was received stays."""

    def release(self, parcel: Parcel) -> None:
        """Delete what is kept of ``parcel``, unless more of it came meanwhile.

        To be called for every listed parcel that is done, in this run or an earlier one.
        """
