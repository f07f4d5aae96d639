"""Which key a library's pseudonyms were made with, so that two keys never mix in one."""

from pathlib import Path

from medssl.errors import FolderError
from medssl.runs.folder import read_json, write_json

FILE = "library.json"
FORMAT_VERSION = 1


def identity_path(library: Path) -> Path:
    """Return the file by which a folder is known as this library."""
    return Path(library) / FILE


def claim_library(library: Path, key_id: str) -> None:
    """Note that ``library`` belongs to the key ``key_id``, or check that it does.

    Raises:
        FolderError: the library was made with another key, or by another format version.
    """
    path = identity_path(library)
    if not path.exists():
        write_json(path, {"format_version": FORMAT_VERSION, "key_id": key_id})
        return
    found = read_json(path)
    if found.get("format_version") != FORMAT_VERSION:
        raise FolderError(
            f"{library} is a library of format version {found.get('format_version')}, "
            f"this medssl writes {FORMAT_VERSION}",
            hint="use another folder",
        )
    if found.get("key_id") != key_id:
        raise FolderError(
            f"{library} was made with another key: its pseudonyms cannot be mixed with new ones",
            hint="point key_file at the key it was made with, or use another library",
        )
