"""Faces removed by a command of the user's: of what it makes, only the pixels are taken."""

import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom import dcmread

from medssl.errors import InputError, RejectedFileError
from medssl.io.dicom.slices import SliceHeader
from medssl.io.untrusted import untrusted
from medssl.privacy.files import CleanFile, FileRules, clean_file, read_header, write
from medssl.privacy.refusals import refuse


class _Pixels(NamedTuple):
    stored: bytes
    """Uncompressed, little-endian."""
    changed: bool


def deface_series(
    paths: Mapping[str, Path], rules: FileRules, command: Sequence[str]
) -> Iterator[tuple[str, CleanFile | RejectedFileError]]:
    """Yield, for each file of a series, its clean copy without a face, or why there is none.

    Args:
        paths: file_key to file.
        rules: what the files are held to.
        command: the words of the command, with ``{input}`` and ``{output}`` in them.

    Raises:
        InputError: there is no such command.
    """
    with tempfile.TemporaryDirectory(prefix="medssl-deface-") as name:
        given, made = Path(name, "input"), Path(name, "output")
        given.mkdir()
        made.mkdir()
        headers: dict[str, SliceHeader] = {}
        for file_key, path in paths.items():
            try:
                headers[file_key] = read_header(path, file_key, rules)
                write(clean_file(headers[file_key], rules).dataset, given / f"{file_key}.dcm")
            except RejectedFileError as error:
                headers.pop(file_key, None)
                yield file_key, error
        worked = _run([word.format(input=given, output=made) for word in command])
        found = {key: _pixels(given / f"{key}.dcm", made / f"{key}.dcm") for key in headers}
        # A command that changes nothing, or fails after it did, did not do its work.
        worked = worked and any(pixels is not None and pixels.changed for pixels in found.values())
        for file_key, pixels in found.items():
            try:
                if pixels is None or not worked:
                    raise refuse("deface_failed")
                clean = clean_file(headers[file_key], rules, defaced=pixels.stored)
            except RejectedFileError as error:
                yield file_key, error
            else:
                yield file_key, clean


def _run(words: list[str]) -> bool:
    """Run a command in silence, as what it says may repeat what it reads; return its success."""
    try:
        done = subprocess.run(  # noqa: S603  the user's own command, without a shell
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        raise InputError(
            f"the deface_command {words[0]!r} cannot be run", hint="is it installed, and on PATH?"
        ) from None
    return done.returncode == 0


def _pixels(given: Path, made: Path) -> _Pixels | None:
    """Return the pixels of ``made``, or None where it is no image of the size of ``given``."""
    facts = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
    try:
        with untrusted("undecodable_pixels"):
            before, after = dcmread(given), dcmread(made)
            same = all(before.get(fact) == after.get(fact) for fact in facts)
            old, new = before.pixel_array, after.pixel_array
    except RejectedFileError:
        return None
    if not same or old.shape != new.shape:
        return None
    stored = new.astype(new.dtype.newbyteorder("<")).tobytes()
    return _Pixels(stored + b"\0" * (len(stored) % 2), changed=not np.array_equal(old, new))
