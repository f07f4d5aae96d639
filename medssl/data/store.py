"""The crop store: volumes at one spacing, read a box at a time.

    STORE/index.json        format version, spacing, digest, number of volumes; written last
    STORE/entries.parquet   one ``StoreEntry`` per volume
    STORE/volumes/KEY.b2nd  voxels in their own integer type, and the same entry as metadata

Volumes are cut into small blocks that are compressed on their own, so a crop costs the blocks it
touches and not the volume. ``medssl.data.store_writer`` writes what is read here.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray
from pydantic import ValidationError

from medssl.config.base import Config
from medssl.data.entry import StoreEntry, content_digest, entries_digest
from medssl.errors import InputError
from medssl.runs.folder import read_json

FORMAT_VERSION = 1
INDEX, ENTRIES, VOLUMES = "index.json", "entries.parquet", "volumes"
ENTRY_METADATA = "medssl"
MAX_OPEN = 64
"""Volumes kept open per process and thread. Opening one takes a seventh of a millisecond, while
many that come and go leave holes in the heap, so that a loader worker grows."""
_AGAIN = "prepare the store again with --overwrite"


class StoreIndex(Config):
    """What ``index.json`` says about the whole store."""

    format_version: int
    spacing_mm: tuple[float, float, float]
    volumes: int
    digest: str


def volume_file(store: Path, volume_key: str) -> Path:
    """Return where the voxels of one volume lie."""
    return store / VOLUMES / f"{volume_key}.b2nd"


def open_volume_file(path: Path) -> Any:
    """Map one stored volume into memory, reading no voxels.

    Returns:
        The lazily read blosc2 array, decoding on the calling thread.

    Raises:
        InputError: The file is missing or is not a stored volume.
    """
    with _damage_named(path):
        return blosc2.open(str(path), mode="r", mmap_mode="r", dparams=blosc2.DParams(nthreads=1))


def read_own_entry(path: Path) -> StoreEntry:
    """Return the entry that a stored volume carries.

    Apart from opening, because blosc2 (4.14) loses some memory with every value that it reads.

    Raises:
        InputError: The file is missing or is not a stored volume.
    """
    array = open_volume_file(path)
    with _damage_named(path):
        return StoreEntry.model_validate_json(array.schunk.vlmeta[ENTRY_METADATA])


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a damaged file makes the decoder raise anything at all
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    state = "damaged" if path.exists() else "missing"
    return InputError(
        f"the stored volume {path.stem} is {state} ({type(error).__name__})", hint=_AGAIN
    )


class CropStore:
    """A store on disk. Cheap to pickle: every process and every thread opens its own files."""

    def __init__(self, path: Path) -> None:
        """Read the index.

        Raises:
            InputError: ``path`` holds no finished store, a damaged one, or one of another format.
        """
        self.path = Path(path)
        self._index = _read_index(self.path)
        self._entries = _read_entries(self.path, self._index.volumes)
        self._views = _views(self._entries.values())
        self._groups = _groups(self._entries.values())
        self._handles = _Handles()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, volume_key: object) -> bool:
        return volume_key in self._entries

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all entries and voxels."""
        return self._index.digest

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along I, J, K, the same for all volumes."""
        return self._index.spacing_mm

    def keys(self, split: str | None = None) -> tuple[str, ...]:
        """Return the keys of the scans of one split, or of all, in a fixed order."""
        return tuple(k for k in self._views if split in (None, self._entries[k].split))

    def views(self, volume_key: str) -> tuple[str, ...]:
        """Return the key of a scan's own volume, and of its other reconstructions in the store."""
        return self._views[volume_key]

    def groups(self, split: str | None = None) -> tuple[tuple[str, ...], ...]:
        """Return the keys of volumes that lie on one grid, group by group, in a fixed order."""
        return tuple(
            keys for keys in self._groups.values() if split in (None, self._entries[keys[0]].split)
        )

    def group(self, volume_key: str) -> tuple[str, ...]:
        """Return the keys of all volumes on the grid of this one, itself included."""
        group = self._entries[volume_key].group
        return (volume_key,) if group is None else self._groups[group]

    def entry(self, volume_key: str) -> StoreEntry:
        """Return what is known about one volume."""
        return self._entries[volume_key]

    def read(
        self, volume_key: str, start_IJK: Sequence[int], size_IJK: Sequence[int]
    ) -> NDArray[Any]:
        """Read one box.

        Args:
            volume_key: Which volume.
            start_IJK: First voxel; may be negative.
            size_IJK: Voxels along I, J, K; may reach beyond the volume.

        Returns:
            ``size_IJK`` voxels in the stored type; those outside the volume hold its background.

        Raises:
            InputError: The volume's file is missing or damaged.
        """
        entry = self._entries[volume_key]
        inside, target = _overlap(start_IJK, size_IJK, entry.shape)
        array = self._handle(volume_key)
        try:  # not ``_damage_named``, which would cost every crop some time
            if target == tuple(slice(0, size) for size in size_IJK):
                return np.asarray(array[inside])
            box_IJK = np.full(tuple(size_IJK), entry.background, dtype=entry.dtype)
            if all(axis.start < axis.stop for axis in inside):
                box_IJK[target] = array[inside]
        except Exception as error:
            raise _damaged(volume_file(self.path, volume_key), error) from error
        return box_IJK

    def problems(self) -> Iterator[str]:
        """Read every voxel and yield a line for each thing that is not as it was written."""
        if entries_digest(self._entries.values()) != self.digest:
            yield f"{ENTRIES} does not have the digest that {INDEX} records"
        for key, entry in self._entries.items():
            try:
                path = volume_file(self.path, key)
                if content_digest(open_volume_file(path)[:]) != entry.content_digest:
                    yield f"the voxels of the stored volume {key} have changed"
                if read_own_entry(path) != entry:
                    yield f"the stored volume {key} and {ENTRIES} describe it differently"
            except InputError as error:
                yield error.problem
            except Exception:  # noqa: BLE001  damage shows in any way, also as want of memory
                yield f"the stored volume {key} cannot be decoded"
        known = {volume_file(self.path, key).name for key in self._entries}
        for found in sorted((self.path / VOLUMES).glob("*")):
            if found.name not in known:
                yield f"{VOLUMES} holds {found.name}, which {ENTRIES} does not list"

    def verify(self) -> None:
        """Check every byte against its digest.

        Raises:
            InputError: Something changed; the message names each volume concerned.
        """
        problems = list(self.problems())
        if problems:
            raise InputError(
                "\n  ".join([f"the crop store is not as it was written: {self.path}", *problems]),
                hint="prepare the store again with --overwrite, or restore the files",
            )

    def _handle(self, volume_key: str) -> Any:
        opened = self._handles.opened()
        if volume_key in opened:
            opened.move_to_end(volume_key)
        else:
            opened[volume_key] = open_volume_file(volume_file(self.path, volume_key))
            if len(opened) > MAX_OPEN:
                opened.popitem(last=False)
        return opened[volume_key]


class _Handles(threading.local):
    """The volumes that one thread of one process has open: a decoder serves one reader at a time.

    A copy, and what another process is given, has none open.
    """

    def __init__(self) -> None:
        self._open, self._process = OrderedDict[str, Any](), os.getpid()

    def opened(self) -> OrderedDict[str, Any]:
        """Return them by key, the one used last at the end."""
        if self._process != os.getpid():  # a fork must not share its parent's decoders
            self._open, self._process = OrderedDict[str, Any](), os.getpid()
        return self._open

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return (_Handles, ())


def _views(entries: Iterable[StoreEntry]) -> dict[str, tuple[str, ...]]:
    """Return, per scan, its volumes: the first view, then the others in their fixed order."""
    all_entries = list(entries)
    found = {entry.volume_key: [entry.volume_key] for entry in all_entries if not entry.view_of}
    for entry in all_entries:
        if entry.view_of:  # where the first view could not be prepared, another takes its place
            found.setdefault(entry.view_of, []).append(entry.volume_key)
    return {keys[0]: tuple(keys) for keys in found.values()}


def _groups(entries: Iterable[StoreEntry]) -> dict[str, tuple[str, ...]]:
    """Return the keys of each group in the order of the entries."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        if entry.group is not None:
            found.setdefault(entry.group, []).append(entry.volume_key)
    return {group: tuple(keys) for group, keys in found.items()}


def _overlap(
    start_IJK: Sequence[int], size_IJK: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the part of a box that lies inside a volume, in the volume's and the box's frame."""
    inside, target = [], []
    for start, size, length in zip(start_IJK, size_IJK, shape, strict=True):
        first = min(max(start, 0), length)
        last = min(max(start + size, first), length)
        inside.append(slice(int(first), int(last)))
        target.append(slice(int(first - start), int(last - start)))
    return tuple(inside), tuple(target)


def _read_index(path: Path) -> StoreIndex:
    try:
        told = read_json(path / INDEX)
        version = told.get("format_version", FORMAT_VERSION) if isinstance(told, dict) else None
        if version in (None, FORMAT_VERSION):  # another one may say other things
            return StoreIndex.model_validate(told)
    except FileNotFoundError:
        raise InputError(
            f"no finished crop store here: {path} has no {INDEX}",
            hint="write it with `medssl prepare`, or run that again if it was interrupted",
        ) from None
    except NotADirectoryError:
        raise InputError(
            f"a crop store is a folder, and this is none: {path}",
            hint="give the folder that `medssl prepare` wrote",
        ) from None
    except ValidationError as error:
        raise InputError(
            f"{path / INDEX} cannot be understood: {_odd(error)}", hint=_AGAIN
        ) from None
    except ValueError as error:
        raise InputError(
            f"{path / INDEX} cannot be understood ({type(error).__name__})", hint=_AGAIN
        ) from None
    except OSError as error:
        raise InputError(f"{path / INDEX} cannot be read ({type(error).__name__})") from None
    raise InputError(
        f"the crop store has format {version}, this version of medssl reads "
        f"format {FORMAT_VERSION}: {path}",
        hint="prepare the store again",
    )


def _read_entries(path: Path, volumes: int) -> dict[str, StoreEntry]:
    try:
        rows = pyarrow.parquet.read_table(path / ENTRIES).to_pylist()
        entries = [StoreEntry.model_validate(row) for row in rows]
    except ValidationError as error:
        problem = f"cannot be understood: {_odd(error)}"
    except Exception as error:  # noqa: BLE001 - a damaged file makes the decoder raise anything
        state = "cannot be read" if (path / ENTRIES).exists() else "is missing"
        problem = f"{state} ({type(error).__name__})"
    else:
        if len(entries) == volumes:
            return {entry.volume_key: entry for entry in entries}
        problem = f"lists {len(entries)} volumes, and {INDEX} says {volumes}"
    raise InputError(f"{ENTRIES} of the crop store {problem}: {path}", hint=_AGAIN)


def _odd(error: ValidationError) -> str:
    """Return what is wrong with which key, without the values."""
    wrong = error.errors(include_url=False, include_input=False)
    return "; ".join(": ".join(map(str, (*each["loc"], each["msg"]))) for each in wrong)
