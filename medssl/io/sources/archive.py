"""Archives (zip, tar and its compressed kinds): unpacked with suspicion, member by member.

A folder's files are taken for archives by their names, since .docx and the like are zips too;
what kind of archive one is, its content tells. An archive inside an archive is not opened.
"""

import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Annotated

from pydantic import Field

from medssl.config.base import Config
from medssl.errors import RejectedFileError
from medssl.io.reasons import reject
from medssl.io.sources.base import Parcel, Refused, half_file
from medssl.runs.folder import is_disk_full

SUFFIXES = (
    *(".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tzst"),
    *(".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"),
)
INSIDE = "!"
"""Ends the name of an archive's parcel, so that its members are called ``a.zip!/member``."""

_COPY_BYTES = 2**20
_RATIO_FROM_BYTES = 2**24
_MOST_TAR_NAME_BYTES = 2**20
_TAR_NAMES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class ArchiveConfig(Config):
    """What an archive may ask for before it is taken for a bomb."""

    most_members: Annotated[int, Field(gt=0)] = 1_000_000
    """An archive of more members is not opened."""
    most_ratio: Annotated[float, Field(gt=1)] = 200.0
    """A member of 16 MiB or more that unpacks to more than so many times its size is refused."""
    most_gib: Annotated[float, Field(gt=0)] = 200.0
    """Members beyond this total are refused."""


class ArchiveSource:
    """Archive files of this machine; each is a parcel."""

    def __init__(self, label: str, archives: Mapping[str, Path], config: ArchiveConfig) -> None:
        """Prepare.

        Args:
            label: of the folder that the names start from.
            archives: name within that folder -> where the archive lies.
            config: limits.
        """
        self.label, self._config = label, config
        self._archives = {f"{name}{INSIDE}": path for name, path in archives.items()}

    def list_parcels(self) -> Iterable[Parcel]:
        """Return one parcel per archive."""
        for name, path in sorted(self._archives.items()):
            try:
                facts = path.stat()
            except OSError:  # a broken link, or no permission: unpacking it says so, in its own row
                yield Parcel(name, stamp="", files=None, bytes=0)
                continue
            stamp = f"{facts.st_size}/{facts.st_mtime_ns}"
            yield Parcel(name, stamp=stamp, files=None, bytes=facts.st_size)

    def fetch(self, parcel: Parcel, folder: Path) -> Sequence[Refused]:
        """Unpack ``parcel`` into ``folder``; return what was left out."""
        return unpack(self._archives[parcel.name], folder, self._config)


def is_archive_name(name: str) -> bool:
    """Return whether a file of this name is taken for an archive."""
    return name.lower().endswith(SUFFIXES)


def is_archive(path: Path) -> bool:
    """Return whether the file ``path``, whatever its name, is an archive by its content."""
    try:
        if zipfile.is_zipfile(path):
            return True
        with tarfile.open(path) as opened:
            return opened.next() is not None  # any file of zeros is an empty tar
    except Exception:  # noqa: BLE001  of a file of any kind, read as if it were a tar
        return False


def unpack(archive: Path, folder: Path, config: ArchiveConfig) -> list[Refused]:
    """Unpack the members of ``archive`` into ``folder``, each whole or not at all.

    Returns:
        The members that were refused; one called "" where the archive itself is at fault.

    Raises:
        OSError: the disk is full.
    """
    work = _Unpacking(folder, config)
    try:
        with _damage_refused("damaged_archive"):
            work.packed_bytes = archive.stat().st_size
            if zipfile.is_zipfile(archive):
                _unpack_zip(archive, work)
            else:
                _unpack_tar(archive, work)
    except RejectedFileError as error:
        work.refused.append(Refused("", error, work.packed_bytes))
    return work.refused


@dataclass
class _Unpacking:
    """One archive under way."""

    folder: Path
    config: ArchiveConfig
    packed_bytes: int = 0
    refused: list[Refused] = field(default_factory=list)
    rows: set[str] = field(default_factory=set)
    total_bytes: int = 0

    def take(self, name: str, size: int, check: Callable[[], None], content: "_Open") -> None:
        """Write the member ``name`` of ``size`` bytes, or note why not."""
        clean = PurePosixPath(name).as_posix()
        row = self._row_name(clean)
        try:
            self._admit(clean, size, again=row != clean)
            check()
            with _damage_refused("damaged_member"):
                self._write(self.folder / clean, size, content)
        except RejectedFileError as error:
            self.refused.append(Refused(row, error, size))
        else:
            self.total_bytes += size

    def count(self, number: int) -> None:
        """Refuse an archive of more than ``most_members``."""
        most = self.config.most_members
        if number > most:
            raise reject("too_many_members", most=most)

    def check_ratio(self, size: int, packed: int) -> None:
        """Refuse what grows too much."""
        if size >= _RATIO_FROM_BYTES and size > self.config.most_ratio * max(packed, 1):
            raise reject("decompression_bomb")

    def _admit(self, name: str, size: int, *, again: bool) -> None:
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or not parts or "\0" in name:
            raise reject("unsafe_member")
        if again:
            raise reject("duplicate_member")
        if is_archive_name(name):
            raise reject("nested_archive")
        if self.total_bytes + size > self.config.most_gib * 2**30:
            raise reject("archive_too_large", limit_gib=self.config.most_gib)

    def _row_name(self, name: str) -> str:
        """Return ``name``, or one like it where an earlier member has it."""
        number, row = 1, name
        while row in self.rows:
            number += 1
            row = f"{name} ({number})"
        self.rows.add(row)
        return row

    def _write(self, path: Path, size: int, content: "_Open") -> None:
        if path.is_file() and path.stat().st_size == size:
            return  # an interrupted run unpacked it
        part = half_file(self.folder)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with content() as source, part.open("wb") as target:
                _copy(source, target, size)
            part.replace(path)
        except OSError as error:
            if is_disk_full(error) or error.errno is None:
                raise
            raise reject("unsafe_member") from None  # a name that no file here can have
        finally:
            part.unlink(missing_ok=True)


_Open = Callable[[], IO[bytes]]


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    left = size
    while left > 0 and (piece := source.read(min(left, _COPY_BYTES))):
        target.write(piece)
        left -= len(piece)
    if left:
        raise EOFError
    if source.read(1):  # reading to the end also has a zip check its checksum
        raise reject("decompression_bomb")


@contextmanager
def _damage_refused(code: str) -> Iterator[None]:
    """Turn what the unpackers raise on damage into ``code``; a full disk stays an OSError."""
    try:
        yield
    except RejectedFileError:
        raise
    except OSError as error:
        if is_disk_full(error):
            raise
        raise reject(code if error.errno is None else "unreadable_file") from None
    except Exception:  # noqa: BLE001  a damaged archive makes the unpackers raise anything at all
        raise reject(code) from None


def _unpack_zip(archive: Path, work: _Unpacking) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = [info for info in opened.infolist() if not info.is_dir()]
        work.count(len(members))
        overlapping = _overlapping(members)
        for index, info in enumerate(members):

            def check(info: zipfile.ZipInfo = info, overlaps: bool = index in overlapping) -> None:
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG):
                    raise reject("unsafe_member")
                if info.flag_bits & 0x1:
                    raise reject("encrypted_member")
                if overlaps:
                    raise reject("decompression_bomb")
                work.check_ratio(info.file_size, info.compress_size)

            work.take(info.filename, info.file_size, check, partial(opened.open, info))


def _overlapping(members: Sequence[zipfile.ZipInfo]) -> set[int]:
    """Return the members whose bytes are also another's: how a small zip unpacks to petabytes."""
    order = sorted(range(len(members)), key=lambda index: members[index].header_offset)
    found: set[int] = set()
    reached, holder = -1, -1
    for index in order:
        info = members[index]
        if info.header_offset < reached:
            found |= {index, holder}
        end = info.header_offset + 30 + len(info.filename.encode("cp437", "ignore"))
        end += info.compress_size
        if end > reached:
            reached, holder = end, index
    return found


class _StrictTarInfo(tarfile.TarInfo):
    """The standard one takes a damaged header for the end, and a name of any length for real."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> "_StrictTarInfo":
        try:
            info = super().frombuf(buf, encoding or "utf-8", errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError:
            raise EOFError from None
        if info.type in _TAR_NAMES and info.size > _MOST_TAR_NAME_BYTES:
            raise EOFError
        return info


def _unpack_tar(archive: Path, work: _Unpacking) -> None:
    number = 0
    with tarfile.open(archive, "r:*", tarinfo=_StrictTarInfo) as opened:
        while (info := opened.next()) is not None:
            opened.members = []  # type: ignore[attr-defined]  # else all stay in memory
            number += 1
            work.count(number)
            if info.isdir():
                continue
            # A tar's members are packed together: only the whole has a ratio.
            work.check_ratio(work.total_bytes + info.size, work.packed_bytes)

            def check(info: tarfile.TarInfo = info) -> None:
                if not info.isreg() or info.issparse():
                    raise reject("unsafe_member")

            work.take(info.name, info.size, check, partial(_member, opened, info))
    if number == 0:  # any file of zeros is an empty tar
        raise EOFError


def _member(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = opened.extractfile(info)
    if content is None:
        raise EOFError
    return content
