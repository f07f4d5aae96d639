"""Object stores and remote disks by fsspec (s3://, gs://, sftp://, memory:// ...)."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from medssl.config.base import Config
from medssl.io.reasons import reject
from medssl.io.sources.archive import INSIDE, ArchiveConfig, is_archive_name, unpack
from medssl.io.sources.base import Parcel, Refused, SourceError, half_file
from medssl.runs.digest import digest_json
from medssl.runs.folder import is_disk_full

_STAMPS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "updated")
_COPY_BYTES = 2**22
_LONGEST_NAME_BYTES = 255


class RemoteConfig(Config):
    """How a store is asked.

    Credentials and endpoints are fsspec's and the store's own business: environment variables, or
    files such as ~/.aws/credentials and ~/.config/fsspec.
    """

    anonymous: bool = False
    """Ask without credentials, as public buckets allow."""
    tries: Annotated[int, Field(ge=1)] = 4
    """Attempts for each object."""
    first_wait_s: Annotated[float, Field(ge=0)] = 1.0
    """Pause after the first failure; it doubles with each further one."""


class RemoteSource:
    """The objects below a URL; those of one folder are a parcel, and so is each archive."""

    def __init__(self, url: str, config: RemoteConfig, archive: ArchiveConfig) -> None:
        """Prepare to ask; some stores are called already.

        Raises:
            SourceError: no installed package knows such addresses, or the store does not answer.
        """
        import fsspec

        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self.label = f"{parts.scheme}://{host}{parts.path}".rstrip("/")
        self._config, self._archive = config, archive
        options = {"anon": True} if config.anonymous else {}
        try:
            self._store, root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError):
            raise SourceError(
                f"{parts.scheme}:// addresses need a package that is not installed",
                hint="for s3://: pip install 'medssl[s3]'; others: the store's fsspec package",
            ) from None
        except Exception as error:  # noqa: BLE001  every store has errors of its own
            raise SourceError(
                f"{self.label} cannot be reached ({type(error).__name__})",
                hint="check the address, the credentials and the connection",
            ) from None
        self._root = str(root).rstrip("/")
        self._objects: dict[str, list[dict[str, Any]]] = {}

    def list_parcels(self) -> Iterable[Parcel]:
        """Return the folders of objects, and the archives.

        Raises:
            SourceError: the store cannot be asked, or holds nothing there.
        """
        found = self._listing()
        if not found:
            raise SourceError(f"{self.label} holds no files", hint="is the address right?")
        objects: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for name, facts in sorted(found.items()):
            folder = PurePosixPath(name).parent.as_posix()
            objects[f"{name}{INSIDE}" if is_archive_name(name) else folder].append(facts)
        self._objects = dict(objects)
        for name, members in sorted(self._objects.items()):
            stamp = digest_json([[facts["relative"], *_stamp(facts)] for facts in members])
            total = sum(int(facts.get("size") or 0) for facts in members)
            count = None if name.endswith(INSIDE) else len(members)
            yield Parcel(name, stamp=stamp, files=count, bytes=total)

    def fetch(self, parcel: Parcel, folder: Path) -> Sequence[Refused]:
        """Bring the objects of ``parcel`` into ``folder``, and unpack an archive.

        Raises:
            SourceError: an object does not arrive whole.
        """
        members = self._objects[parcel.name]
        if parcel.name.endswith(INSIDE):
            packed = folder.with_name(f"{folder.name}.packed")
            self._bring(members[0], packed, half_file(folder))
            refused: list[Refused] = unpack(packed, folder, self._archive)
            packed.unlink()
            return refused
        refused = []
        for facts in members:
            name = PurePosixPath(str(facts["relative"])).name
            too_long = len(name.encode(errors="surrogateescape")) > _LONGEST_NAME_BYTES
            if name in ("", ".", "..") or "\0" in name or too_long:
                refused.append(Refused(name, reject("unsafe_member"), int(facts["size"] or 0)))
                continue
            self._bring(facts, folder / name, half_file(folder))
        return refused

    def _listing(self) -> dict[str, dict[str, Any]]:
        """Return the facts of every object, by its path below the source."""
        for attempt in range(self._config.tries):
            try:
                self._store.invalidate_cache()
                found = self._store.find(self._root, detail=True)
                break
            except Exception as error:  # noqa: BLE001  every store has errors of its own
                self._wait_or_give_up(attempt, error, "cannot be listed")
        base = self._root
        if list(found) == [base]:  # the address of one file
            base = base.rpartition("/")[0]
        return {
            path.removeprefix(base).lstrip("/"): facts
            | {"path": path, "relative": path.removeprefix(base).lstrip("/")}
            for path, facts in found.items()
            if facts.get("type") != "directory" and not path.endswith("/")
        }

    def _bring(self, facts: dict[str, Any], target: Path, part: Path) -> None:
        size = facts.get("size")
        if target.is_file() and target.stat().st_size == size:
            return  # an interrupted run brought it
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for attempt in range(self._config.tries):
            try:
                self._copy(str(facts["path"]), part)
                if size is not None and part.stat().st_size != size:
                    raise EOFError
                part.replace(target)
                return
            except Exception as error:  # noqa: BLE001  every store has errors of its own
                part.unlink(missing_ok=True)
                self._wait_or_give_up(attempt, error, "sends a file only in part, or not at all")

    def _copy(self, path: str, part: Path) -> None:
        with self._store.open(path, "rb") as source, part.open("wb") as target:
            while piece := source.read(_COPY_BYTES):
                target.write(piece)

    def _wait_or_give_up(self, attempt: int, error: Exception, problem: str) -> None:
        """Sleep before the next attempt, or raise; the store's own text may hold anything."""
        if isinstance(error, OSError) and is_disk_full(error):
            raise error
        final = isinstance(error, PermissionError | FileNotFoundError)
        if final or attempt + 1 >= self._config.tries:
            kind = type(error).__name__
            raise SourceError(
                f"{self.label} {problem} ({kind}, tried {attempt + 1} times)",
                hint="check the address, the credentials and the connection, then run it again",
            ) from None
        time.sleep(self._config.first_wait_s * 2**attempt)


def _stamp(facts: dict[str, Any]) -> list[str]:
    known = next((str(facts[name]) for name in _STAMPS if facts.get(name) is not None), "")
    return [str(facts.get("size")), known]
