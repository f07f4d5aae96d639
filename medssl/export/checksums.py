"""``SHA256SUMS``: the digest of every file of an artefact, as ``sha256sum -c`` reads them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medssl.errors import InputError
from medssl.runs.digest import digest_file
from medssl.runs.folder import write_text

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"

_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")
_MOST_BYTES = 2**24


@dataclass(frozen=True, kw_only=True)
class Differences:
    """What is not as ``SHA256SUMS`` says; names relative to the artefact."""

    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    """Files that are not listed, and links, whatever they point to."""
    files: int = 0
    """How many are listed."""

    def __bool__(self) -> bool:
        return bool(self.changed or self.missing or self.added)


def write_checksums(folder: Path) -> None:
    """Write ``SHA256SUMS`` of all that is in ``folder``: to be done last."""
    lines = (f"{digest_file(folder / name)}  {name}\n" for name in _names(folder))
    write_text(folder / SUMS, "".join(lines))


def read_checksums(folder: Path) -> dict[str, str]:
    """Return the digest of each file that ``SHA256SUMS`` lists.

    Raises:
        InputError: It is missing or damaged, or lists what is not in the folder.
    """
    path = folder / SUMS
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder", hint="give an exported folder")
    if not path.is_file() or path.is_symlink():
        raise InputError(
            f"{folder}: there is no {SUMS}, so nothing says what its files were",
            hint="give the folder that `medssl export` made, such as OUT/encoder_folder",
        )
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path}: it is too large to be a list of files")
    found: dict[str, str] = {}
    for number, line in enumerate(_lines(path), start=1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in found or not is_inside(match[2]):
            raise InputError(
                f"{path}: line {number} is no digest of a file of this folder",
                hint="the list is damaged or forged; get the artefact again",
            )
        found[match[2]] = match[1]
    return found


def compare(folder: Path, expected: Mapping[str, str]) -> Differences:
    """Return in what ``folder`` differs from ``expected``, digest by file."""
    there = [name for name in _names(folder) if not (folder / name).is_symlink()]
    links = [name for name in _names(folder) if (folder / name).is_symlink()]
    changed = [
        name for name in there if name in expected and digest_file(folder / name) != expected[name]
    ]
    return Differences(
        changed=tuple(changed),
        missing=tuple(name for name in expected if name not in there),
        added=(*(name for name in there if name not in expected), *links),
        files=len(expected),
    )


def is_inside(name: str) -> bool:
    """Return whether ``name`` is a plain path below a folder, and not of one of the lists."""
    path = PurePosixPath(name)
    strange = path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name
    return not strange and str(path) == name and name not in (SUMS, SIGNATURE, ".")


def _names(folder: Path) -> list[str]:
    """Return all files and links below ``folder``, links not followed, in a fixed order."""
    found = []
    for above, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(above) / name).is_symlink()]
        found += [(Path(above) / name).relative_to(folder).as_posix() for name in files + links]
    return sorted(name for name in found if name not in (SUMS, SIGNATURE))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")[:-1]
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: it is no text", hint="the list is damaged; get the artefact again"
        ) from None
