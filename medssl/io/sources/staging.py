"""Parcels on their way: fetched into the library's waiting room, and gone once they are noted."""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.sources.archive import INSIDE
from medssl.io.sources.base import Listener, Parcel, ParcelSource, SourceError
from medssl.io.sources.folder import FileRef, walk
from medssl.runs.digest import digest_json
from medssl.runs.progress import task

_log = logging.getLogger(__name__)

FOLDER, LEDGER = "incoming", Path("private", "parcels.jsonl")


@dataclass(frozen=True)
class Delivery:
    """A parcel to fetch."""

    source: ParcelSource = field(repr=False)
    parcel: Parcel
    key: str
    """Pseudonym of the parcel."""
    stamp: str
    """Changes with the content and with the settings that matter."""


@dataclass(frozen=True)
class Staged:
    """A parcel that was fetched."""

    delivery: Delivery
    refs: list[FileRef]
    refused: list[tuple[FileRef, RejectedFileError]]
    bytes: int


class Ledger:
    """Which parcels are in the library; a done parcel of the same stamp is not fetched again."""

    def __init__(self, library: Path) -> None:
        self.path = Path(library) / LEDGER
        self.stamps: dict[str, str] = {}
        self.parcel_of: dict[str, str] = {}
        """File key -> parcel key."""
        content = self.path.read_bytes() if self.path.exists() else b""
        self._whole = content.rfind(b"\n") + 1  # a kill may have cut the last line short
        for line in content[: self._whole].splitlines():
            try:
                row = json.loads(line)
                self._note(row["parcel_key"], row["stamp"], row["files"])
            except (ValueError, KeyError, TypeError):
                continue  # its parcel is fetched again

    def is_done(self, delivery: Delivery) -> bool:
        """Return whether ``delivery``, as it is now, is in the library."""
        return self.stamps.get(delivery.key) == delivery.stamp

    def note(self, staged: Staged) -> None:
        """Record that all of ``staged`` is in the library; it is on disk when this returns."""
        delivery = staged.delivery
        files = [ref.file_key for ref in staged.refs] + [ref.file_key for ref, _ in staged.refused]
        row = {"parcel_key": delivery.key, "stamp": delivery.stamp, "files": files}
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600)
        with os.fdopen(handle, "r+b") as file:
            file.truncate(self._whole)
            file.seek(self._whole)
            file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            self._whole = file.tell()
        self._note(delivery.key, delivery.stamp, files)

    def _note(self, key: str, stamp: str, files: Iterable[str]) -> None:
        self.stamps[key] = stamp
        self.parcel_of |= dict.fromkeys(files, key)


class Staging:
    """The waiting room of a library: ``incoming``, readable by its owner only."""

    def __init__(self, library: Path, pseudonymizer: Pseudonymizer, settings: str) -> None:
        """Prepare.

        Args:
            library: the library's folder.
            pseudonymizer: makes the keys.
            settings: changes with every setting that makes another library of the same files.
        """
        self.folder = Path(library) / FOLDER
        self._pseudonymizer, self._settings = pseudonymizer, settings

    def deliveries(self, sources: Iterable[ParcelSource]) -> list[Delivery]:
        """Return everything that ``sources`` hold.

        Raises:
            SourceError: one of them cannot be asked.
        """
        found: dict[str, Delivery] = {}
        for source in sources:
            for parcel in source.list_parcels():
                key = self._pseudonymizer.file_key(f"parcel {source.label}/{parcel.name}")
                stamp = digest_json([parcel.stamp, self._settings])[:32]
                found.setdefault(key, Delivery(source, parcel, key, stamp))
        return list(found.values())

    def fetch(self, delivery: Delivery) -> Staged:
        """Bring ``delivery`` here, going on where an interrupted fetch of the same content stopped.

        Raises:
            SourceError: it does not arrive whole; what did stays for the next attempt.
            OSError: the disk is full.
        """
        folder = self._place(delivery)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for other in self.folder.glob(f"{delivery.key}-*"):
            if not other.name.startswith(folder.name):
                _remove(other)
        folder.mkdir(mode=0o700, exist_ok=True)
        source, parcel = delivery.source, delivery.parcel
        refused = source.fetch(parcel, folder) or ()
        refs = [self._ref(delivery, path) for path in sorted(walk(folder))]
        return Staged(
            delivery,
            refs,
            [(self._named(delivery, part.name, part.bytes), part.error) for part in refused],
            sum(ref.bytes for ref in refs),
        )

    def batches(
        self, deliveries: Sequence[Delivery], room_gib: float, failed: list[Delivery]
    ) -> Iterator[list[Staged]]:
        """Fetch ``deliveries`` and yield them whenever about ``room_gib`` is used up.

        What does not arrive whole is added to ``failed``, and stops nothing.

        Raises:
            OSError: the disk is full.
        """
        batch: list[Staged] = []
        with task("Fetching", len(deliveries)) as progress:
            for delivery in deliveries:
                held_bytes = sum(staged.bytes for staged in batch) + (delivery.parcel.bytes or 0)
                if batch and held_bytes > room_gib * 2**30:
                    yield batch
                    batch = []
                try:
                    batch.append(self.fetch(delivery))
                except SourceError as error:
                    failed.append(delivery)
                    _log.warning("A parcel could not be fetched: %s", error.problem)
                progress.advance()
        if batch:
            yield batch

    def drop(self, delivery: Delivery) -> None:
        """Delete what was fetched of ``delivery``."""
        for left in self.folder.glob(f"{self._place(delivery).name}*"):
            _remove(left)
        if isinstance(delivery.source, Listener):  # it keeps what it received until now
            delivery.source.release(delivery.parcel)

    def sweep(self, keep: Sequence[Delivery]) -> None:
        """Delete what belongs to none of ``keep``."""
        names = tuple(self._place(delivery).name for delivery in keep)
        for path in self.folder.glob("*-*"):
            if not path.name.startswith(names or ("\0",)):
                _remove(path)

    def _place(self, delivery: Delivery) -> Path:
        return self.folder / f"{delivery.key}-{delivery.stamp[:8]}"

    def _ref(self, delivery: Delivery, path: Path) -> FileRef:
        name = path.relative_to(self._place(delivery)).as_posix()
        return self._named(delivery, name, path.stat().st_size, path)

    def _named(self, delivery: Delivery, name: str, size: int, path: Path | None = None) -> FileRef:
        label, parcel = delivery.source.label, delivery.parcel.name
        inside = _name_within(parcel, name)
        return FileRef(
            path=path or Path(f"{label}/{inside}"),
            name=inside,
            file_key=self._pseudonymizer.file_key(f"{label}/{inside}"),
            bytes=size,
            mtime_ns=int(delivery.stamp[:14], 16),  # when it was fetched says nothing
            label=label,
        )


def _name_within(parcel: str, name: str) -> str:
    """Return what the file ``name`` of ``parcel`` is called within its source."""
    if not name:
        return parcel.removesuffix(INSIDE)
    return name if parcel == "." else f"{parcel}/{name}"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
