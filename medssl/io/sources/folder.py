"""Folders of files: walked in a stable order, through links, never in a circle."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

    def matches(self, patterns: Sequence[str]) -> bool:
        """Return whether a glob fits the name within the source; ``*`` also spans folders."""
        return any(fnmatchcase(self.name, pattern) for pattern in patterns)


def list_files(
    sources: Sequence[Path], pseudonymizer: Pseudonymizer, *, skip: Path | None = None
) -> list[FileRef]:
    """Return every file in ``sources``, which are folders or single files, sorted by path.

    Args:
        sources: where to look; a file reached twice is listed once.
        pseudonymizer: makes the file keys.
        skip: a folder to leave out: the library, should it lie in a source.

    Raises:
        InputError: when a source does not exist, or holds no file.
    """
    roots = [_absolute(source) for source in sources]
    folders = [root.parent if root.is_file() else root for root in roots]
    found: dict[Path, FileRef] = {}
    for root, folder, label in zip(roots, folders, _labels(folders), strict=True):
        if not root.exists():
            raise InputError(f"the source {root} does not exist")
        paths = [root] if root.is_file() else list(_walk(root, skip))
        if not paths:
            raise InputError(f"the source {root} holds no files", hint="is the disk mounted?")
        for path in paths:
            name = path.relative_to(folder).as_posix()
            found.setdefault(path, _ref(path, name, pseudonymizer.file_key(f"{label}/{name}")))
    return sorted(found.values(), key=lambda ref: ref.path)


def candidate_names(path: Path) -> Iterator[str]:
    """Yield every name ``list_files`` may have given to ``path``, whatever its source was."""
    parts = _absolute(path).parts
    for start in range(1, len(parts)):
        yield PurePosixPath(*parts[start:]).as_posix()


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  links stay: a source keeps the name it was given


def _labels(folders: Sequence[Path]) -> list[str]:
    """Return the fewest last parts of each folder that tell different folders apart."""
    most = max((len(folder.parts) for folder in folders), default=0)
    labels: list[str] = []
    for count in range(1, most + 1):
        labels = [PurePosixPath(*folder.parts[-count:]).as_posix() for folder in folders]
        if len(set(labels)) == len(set(folders)):
            break
    return labels


def _ref(path: Path, name: str, file_key: str) -> FileRef:
    try:
        facts = path.stat()
    except OSError:  # a broken link, or no permission: reading it says so, in its own row
        return FileRef(path, name, file_key, 0, 0)
    return FileRef(path, name, file_key, facts.st_size, facts.st_mtime_ns)


def _walk(root: Path, skip: Path | None) -> Iterator[Path]:
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
