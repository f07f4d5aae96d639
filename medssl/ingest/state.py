"""What a library holds before and during a run: items, refused files, where files lay."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from medssl.errors import FolderError, InputError
from medssl.ingest.items import Item, ItemResult
from medssl.ingest.journal import Journal
from medssl.io.sources.folder import FileRef
from medssl.library.outcomes import (
    FileOutcome,
    read_paths,
    read_settled,
    write_outcomes,
    write_paths,
)
from medssl.library.volumes import read_volume, volume_path

RETRIED = frozenset({"unreadable_file", "incomplete_redelivery", "single_slices"})
"""Reasons that another day may mend, though the file stays the same."""


class State:
    """The records of a library; ``save`` writes those that are not written as they come."""

    def __init__(self, library: Path, broken: Collection[str]) -> None:
        """Read what there is.

        Args:
            library: the library's folder.
            broken: keys of volumes whose items are to be converted again.
        """
        self.library = library
        self.journal = Journal(library)
        self.settled = {row.file_key: row for row in read_settled(library)}
        self.paths = read_paths(library)
        self._broken = {
            key
            for key, result in self.journal.results.items()
            if any(row["volume_key"] in broken for row in result.volumes)
        }
        self.rows: dict[str, FileOutcome] = {}
        """The row of every file that need not be read again while it stays as it is."""
        self.refresh()

    def refresh(self) -> None:
        """Look the rows up again after items were added or dropped."""
        journalled = {
            row.file_key: row
            for key, result in self.journal.results.items()
            if key not in self._broken
            for row in result.files
        }
        self.rows = self.settled | journalled

    def is_unchanged(self, ref: FileRef) -> bool:
        """Return whether ``ref`` was read before and is as it was, as are the settings."""
        row = self.rows.get(ref.file_key)
        return row is not None and row.stamp == ref.stamp and row.reason_code not in RETRIED

    def is_done(self, item: Item) -> bool:
        """Return whether ``item``, as it is now, is in the library."""
        result = self.journal.results.get(item.key)
        return (
            result is not None
            and result.signature == item.signature
            and item.key not in self._broken
            and all(row.reason_code not in RETRIED for row in result.files)
        )

    def add(self, result: ItemResult) -> None:
        """Record ``result``; it is on disk when this returns."""
        self.journal.append(result)
        self._broken.discard(result.key)

    def place(self, paths: Mapping[str, str]) -> None:
        """Note where files lie: file key -> path.

        Raises:
            FolderError: two files would share a key.
        """
        for file_key, path in paths.items():
            before = self.paths.get(file_key, path)
            if before != path and Path(before).exists():
                raise FolderError(
                    "a source has the same folder name, and a file of the same name, as a source "
                    "of an earlier ingest of this library",
                    hint="rename one of the folders, or use another library",
                )
        self.paths |= paths

    def settle(
        self,
        touched: Mapping[str, FileRef],
        settled: Iterable[FileOutcome],
        current: Collection[str],
    ) -> int:
        """Make the records agree with what was read.

        Args:
            touched: the files that were read or refused, by key.
            settled: the rows of those that belong to no item.
            current: keys of the items that were found, or are to stay as they are.

        Returns:
            How many items stay though other content took the names of their files.
        """
        refused = {row.file_key: row for row in settled}
        results, orphans = [], 0
        for key, result in self.journal.results.items():
            taken = {row.file_key for row in result.files if row.file_key in touched}
            if key in current:
                taken &= refused.keys()
            elif taken and not self._overwritten(result, touched, refused):
                continue  # its files now belong to other items, or are left out on purpose
            orphans += bool(taken) and key not in current
            files = tuple(row for row in result.files if row.file_key not in taken)
            results.append(replace(result, files=files) if taken else result)
        self.journal.replace(results)
        untouched = {key: row for key, row in self.settled.items() if key not in touched}
        self.settled = untouched | refused
        self.refresh()
        return orphans

    def _overwritten(
        self,
        result: ItemResult,
        touched: Mapping[str, FileRef],
        refused: Mapping[str, FileOutcome],
    ) -> bool:
        """Return whether a volume's file holds something else now, other than by being left out."""
        return any(
            row.file_key in touched
            and touched[row.file_key].content_stamp != row.stamp.partition("-")[0]
            for row in result.files
            if row.outcome == "converted"
            and (row.file_key not in refused or refused[row.file_key].reason_code != "excluded")
        )

    def outcomes(self) -> list[FileOutcome]:
        """Return one outcome per file ever seen."""
        journalled = (row for result in self.journal.results.values() for row in result.files)
        return list((self.settled | {row.file_key: row for row in journalled}).values())

    def volumes(self) -> list[dict[str, object]]:
        """Return the catalog's rows."""
        return [row for result in self.journal.results.values() for row in result.volumes]

    def save_paths(self) -> None:
        """Write where files lie, before anything can go wrong with them."""
        write_paths(self.library, self.paths, [])

    def save(self) -> list[FileOutcome]:
        """Write what became of every file, and where it lies; return the former."""
        outcomes = self.outcomes()
        write_outcomes(self.library, outcomes)
        write_paths(self.library, self.paths, outcomes)
        return outcomes


def broken_volumes(library: Path, keys: Iterable[str], *, thorough: bool) -> list[str]:
    """Return those of ``keys`` whose volume is missing, or with ``thorough``, cannot be read."""
    if not thorough:
        return sorted(key for key in keys if not volume_path(library, key).is_file())
    broken = []
    for key in keys:
        try:
            read_volume(library, key)
        except InputError:
            broken.append(key)
    return sorted(broken)
