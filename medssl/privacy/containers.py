"""Look inside what is packed: archives, compressed files, tables, databases."""

import bz2
import gzip
import io
import json
import lzma
import re
import shutil
import sqlite3
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import blosc2
import pyarrow.parquet as pq
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medssl.io.dicom.stream import open_dicom
from medssl.io.limits import Limits

Inner = Iterator[tuple[str, BinaryIO]]

HEAD_BYTES = 4096
_ROWS = 1000
_PNG_TEXTS = {b"zTXt", b"iTXt", b"eXIf"}
_LONGEST_PNG_TEXT_BYTES = 2**24
_PNG_START = b"\x89PNG\r\n\x1a\n"
_CLOSED = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"%PDF-": "pdf",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"ARROW1\0\0": "Arrow",
}


class CannotLookInsideError(Exception):
    """A packed file whose content was not, or not wholly, searched; the text says why."""


def damaged(error: Exception) -> CannotLookInsideError:
    """Return what is said of a packed file that cannot be unpacked; never the error's own text."""
    return CannotLookInsideError(f"damaged ({type(error).__name__})")


class Limited(io.RawIOBase):
    """A stream that takes what is read from it off a budget shared by a whole file."""

    def __init__(self, inner: BinaryIO, budget: list[int]) -> None:
        super().__init__()
        self.inner, self.budget = inner, budget

    def readable(self) -> bool:  # noqa: D102  as in the base
        return True

    def read(self, size: int = -1) -> bytes:
        """Read, and raise once the budget is spent or the content turns out damaged."""
        try:
            content = self.inner.read(min(size, 2**20) if size >= 0 else 2**20)
        except Exception as error:  # noqa: BLE001  a damaged archive makes a reader raise anything
            raise damaged(error) from None
        self.budget[0] -= len(content)
        if self.budget[0] < 0:
            raise CannotLookInsideError("unpacks to more than is searched: an archive bomb?")
        return content


def unpacked(stream: BinaryIO) -> Inner | None:
    """Return the name and content of everything inside ``stream``; None where it is plain.

    Raises:
        CannotLookInsideError: it is packed in a way not known here; when iterated, damaged.
    """
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    closed = next((name for magic, name in _CLOSED.items() if head.startswith(magic)), None)
    if closed:
        raise CannotLookInsideError(f"packed as {closed}, which is not opened here")
    opener = _opener(head)
    return None if opener is None else _unless_damaged(opener(stream))


def _unless_damaged(inner: Inner) -> Inner:
    try:
        yield from inner
    except CannotLookInsideError:
        raise
    except Exception as error:  # noqa: BLE001  a damaged archive makes a reader raise anything
        raise damaged(error) from None


def is_packed(head: bytes) -> bool:
    """Return whether what starts with ``head`` can be looked into."""
    return _opener(head) is not None


def _opener(head: bytes) -> Callable[[BinaryIO], Inner] | None:
    starts: dict[bytes, Callable[[BinaryIO], Inner]] = {
        b"PK\x03\x04": _zip,
        b"\x1f\x8b\x08": _gzip,
        b"\xfd7zXZ\0": _xz,
        b"PAR1": _parquet,
        b"SQLite format 3\0": _sqlite,
        _PNG_START: _png,
    }
    found = next((opener for magic, opener in starts.items() if head.startswith(magic)), None)
    if found is not None:
        return found
    if re.match(rb"BZh[1-9]1AY&SY", head):
        return _bzip2
    if b"b2frame\0" in head[:16]:
        return _blosc2
    if head[257:262] == b"ustar":
        return _tar
    if head[128:132] == b"DICM" and DeflatedExplicitVRLittleEndian.encode() in head:
        return _deflated
    return None


def _gzip(stream: BinaryIO) -> Inner:
    with gzip.open(stream) as plain:
        yield "content", cast(BinaryIO, plain)


def _bzip2(stream: BinaryIO) -> Inner:
    with bz2.open(stream) as plain:
        yield "content", cast(BinaryIO, plain)


def _xz(stream: BinaryIO) -> Inner:
    with lzma.open(stream) as plain:
        yield "content", cast(BinaryIO, plain)


def _zip(stream: BinaryIO) -> Inner:
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            if member.flag_bits & 1:
                raise CannotLookInsideError("holds encrypted members")
            with archive.open(member) as inner:
                yield member.filename, cast(BinaryIO, inner)


def _tar(stream: BinaryIO) -> Inner:
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive:
            if (inner := archive.extractfile(member)) is not None:
                yield member.name, cast(BinaryIO, inner)


def _parquet(stream: BinaryIO) -> Inner:
    file = pq.ParquetFile(stream)
    for batch in file.iter_batches(batch_size=_ROWS):
        rows = json.dumps(batch.to_pydict(), ensure_ascii=False, default=_in_words)
        yield "rows", io.BytesIO(rows.encode("utf-8", "surrogateescape"))


def _in_words(value: object) -> str:
    """Return a date as it is written, and bytes as they are once the text is encoded."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _png(stream: BinaryIO) -> Inner:
    stream.seek(len(_PNG_START))
    while len(head := stream.read(8)) == 8:  # noqa: PLR2004  length and kind
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind not in _PNG_TEXTS:
            stream.seek(length + 4, 1)
            continue
        text = stream.read(length + 4)[:-4]
        start = text.find(b"\x78")
        while start >= 0:  # where a zlib stream may begin
            engine = zlib.decompressobj()
            try:
                plain = engine.decompress(memoryview(text)[start:], _LONGEST_PNG_TEXT_BYTES)
            except zlib.error:
                start = text.find(b"\x78", start + 1)
                continue
            yield "text", io.BytesIO(plain)
            if engine.unconsumed_tail:
                raise CannotLookInsideError("holds a text too long to be unpacked")
            break


def _sqlite(stream: BinaryIO) -> Inner:
    with _on_disk(stream, ".db") as path:
        database = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
        database.text_factory = bytes
        try:
            names = database.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()
            for (name,) in names:
                quoted = name.decode().replace('"', '""')
                cursor = database.execute(f'SELECT * FROM "{quoted}"')  # noqa: S608  a table's name
                while rows := cursor.fetchmany(_ROWS):
                    values = (
                        v if isinstance(v, bytes) else str(v).encode() for r in rows for v in r
                    )
                    yield name.decode(), io.BytesIO(b"\n".join(values))
        finally:
            database.close()


def _blosc2(stream: BinaryIO) -> Inner:
    with _on_disk(stream, ".b2frame") as path:
        opened = blosc2.open(str(path), mode="r")  # owns what the chunks need
        chunks = getattr(opened, "schunk", opened)
        for layer in ("meta", "vlmeta"):
            values = getattr(chunks, layer)
            text = repr({name: values[name] for name in values})
            yield layer, io.BytesIO(text.encode("utf-8", "surrogateescape"))
        for number in range(chunks.nchunks):
            yield "chunk", io.BytesIO(chunks.decompress_chunk(number))


def _deflated(stream: BinaryIO) -> Inner:
    with _on_disk(stream, ".dcm") as path, open_dicom(path, Limits()) as plain:
        yield "inflated", plain


class _on_disk:  # noqa: N801  a context manager, used as a function
    """A copy of a stream for readers that want a path."""

    def __init__(self, stream: BinaryIO, suffix: str) -> None:
        self.stream, self.suffix = stream, suffix

    def __enter__(self) -> Path:
        self.folder = tempfile.TemporaryDirectory(prefix="medssl-audit-")
        path = Path(self.folder.name, f"copy{self.suffix}")
        with path.open("wb") as file:
            shutil.copyfileobj(self.stream, file)
        return path

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()
