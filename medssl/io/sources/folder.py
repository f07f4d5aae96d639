"""Folders of files: walked in a stable order, through links, never in a circle."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from medssl.errors import InputError
from medssl.io.deidentify import Pseudonymizer

_DEEPEST = 64


@dataclass(frozen=True, slots=True)
class FileRef:
    """One file of a source; path and name are private, the key is not."""

    path: Path
    name: str
    """Its path within its source, with forward slashes."""
    file_key: str
    """Made of the source's own folder name and ``name``, so that the data may move as a whole."""
    bytes: int
    mtime_ns: int
    label: str = ""
    """The source's own name; ``label/name`` is what the key is made of."""
    stamp: str = ""
    """Pseudonym of size and time, then ``-`` and a digest of the settings that matter."""

    @property
    def content_stamp(self) -> str:
        """What changes only when the file itself does."""
        return self.stamp.partition("-")[0]

    def stamped(self, pseudonymizer: Pseudonymizer, settings: str) -> "FileRef":
        """Return this with its stamp; ``settings`` is a digest."""
        content = pseudonymizer.content_key(f"{self.bytes}/{self.mtime_ns}")[:16]
        return replace(self, stamp=f"{content}-{settings[:8]}")

    def matches(self, patterns: Sequence[str]) -> bool:
        """Return whether a glob fits the name within the source; ``*`` also spans folders."""
        return any(fnmatchcase(self.name, pattern) for pattern in patterns)


def list_files(
    sources: Sequence[Path],
    pseudonymizer: Pseudonymizer,
    *,
    skip: Path | None = None,
    may_be_empty: bool = False,
) -> list[FileRef]:
    """Return every file in ``sources``, which are folders or single files, sorted by path.

    Args:
        sources: where to look; a file reached twice is listed once.
        pseudonymizer: makes the file keys.
        skip: a folder to leave out: the library, should it lie in a source.
        may_be_empty: whether a source without files is no mistake.

    Raises:
        InputError: when a source does not exist, or holds no file.
    """
    roots = [absolute(source) for source in sources]
    folders = [root.parent if root.is_file() else root for root in roots]
    found: dict[Path, FileRef] = {}
    for root, folder, label in zip(roots, folders, _labels(folders), strict=True):
        if not root.exists():
            raise InputError(f"the source {root} does not exist")
        paths = [root] if root.is_file() else list(walk(root, skip))
        if not paths and not may_be_empty:
            raise InputError(f"the source {root} holds no files", hint="is the disk mounted?")
        for path in paths:
            name = path.relative_to(folder).as_posix()
            if path not in found:
                found[path] = _ref(path, name, label, pseudonymizer)
    return sorted(found.values(), key=lambda ref: ref.path)


def candidate_names(path: Path) -> Iterator[str]:
    """Yield every name ``list_files`` may have given to ``path``, whatever its source was."""
    parts = absolute(path).parts
    for start in range(len(parts)):
        yield PurePosixPath(*parts[start:]).as_posix()
    yield "/" + absolute(path).as_posix()  # of the source "/"


def absolute(path: Path) -> Path:
    """Return ``path`` from the root; links stay, as a source keeps the name it was given."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _labels(folders: Sequence[Path]) -> list[str]:
    """Return the fewest last parts of each folder that tell different folders apart."""
    most = max((len(folder.parts) for folder in folders), default=0)
    labels: list[str] = []
    for count in range(1, most + 1):
        labels = [PurePosixPath(*folder.parts[-count:]).as_posix() for folder in folders]
        if len(set(labels)) == len(set(folders)):
            break
    return labels


def _ref(path: Path, name: str, label: str, pseudonymizer: Pseudonymizer) -> FileRef:
    file_key = pseudonymizer.file_key(f"{label}/{name}")
    try:
        facts = path.stat()
    except OSError:  # a broken link, or no permission: reading it says so, in its own row
        return FileRef(path, name, file_key, 0, 0, label)
    return FileRef(path, name, file_key, facts.st_size, facts.st_mtime_ns, label)


def walk(root: Path, skip: Path | None = None) -> Iterator[Path]:
    """Yield the files below ``root``; a folder that cannot be listed is yielded itself."""
    pending, visited = [(root, 0)], set()
    if skip is not None and skip.exists():  # by what it is, since a link may lead to it
        facts = skip.stat()
        visited.add((facts.st_dev, facts.st_ino))
    while pending:
        folder, depth = pending.pop()
        try:
            facts = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            yield folder
            continue
        if (facts.st_dev, facts.st_ino) in visited or depth > _DEEPEST:
            continue
        visited.add((facts.st_dev, facts.st_ino))
        for entry in entries:
            path = folder / entry.name
            if _is_folder(entry):
                pending.append((path, depth + 1))
            else:
                yield path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a closed folder: reading it says so, in its own row
        return False
