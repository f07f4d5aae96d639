"""One volume of the library in one file: voxels on the closest RAS grid, and their geometry.

The voxels lie in the file as the reader had them in memory, whole slices first to last for DICOM,
so that nothing is turned on the way; the meta data say how to turn them when they are read.
"""

import errno
import math
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, TypeVar

import blosc2
import numpy as np

from medssl.errors import InputError
from medssl.io.geometry import in_memory, memory_order, to_closest_ras
from medssl.io.narrow import VoxelArray
from medssl.io.volume import SliceSource, Volume
from medssl.library.fingerprints.perceptual import SPEC, Perceptual
from medssl.library.fingerprints.slice_digest import slice_digests
from medssl.runs.folder import atomic_path

FOLDER, SUFFIX = "volumes", ".b2nd"
FORMAT_VERSION = 3
_META, _SLICES, _DIGESTS, _PICTURE = "medssl", "slices", "slice_digests", "picture"
_PERCEPTUAL = "perceptual"
_CHUNK_BYTES, _BLOCK_BYTES = 2 * 2**20, 64 * 2**10
blosc2.set_releasegil(True)  # else threads that pack wait for each other
_RECORD_BYTES = 128
"""More than the signatures of a slice take up."""

T = TypeVar("T")


@dataclass(frozen=True)
class SliceRecord:
    """Where the slices of a stored volume come from.

    Attributes:
        axis: the axis of the stored array along which the slices lie.
        sources: one per index of that axis; none for a volume read from a NIfTI file.
        digests: one per index of that axis, whatever the format.
        perceptual: what the volume and its slices look like; None where no such record was made,
            or by another spec than the current one.
    """

    axis: int
    sources: tuple[SliceSource, ...]
    digests: tuple[str, ...]
    perceptual: Perceptual | None = None


def volume_path(library: Path, volume_key: str) -> Path:
    """Return where the volume ``volume_key`` lies."""
    return Path(library) / FOLDER / f"{volume_key}{SUFFIX}"


def write_volume(
    library: Path,
    volume_key: str,
    volume: Volume,
    digests: Callable[[], Sequence[str]] | None = None,
    picture: Callable[[], bytes] | None = None,
    perceptual: Callable[[], Perceptual] | None = None,
    pool: Executor | None = None,
) -> Volume:
    """Store ``volume``, turned to the closest RAS grid; the file appears whole or not at all.

    Args:
        library: the library's folder.
        volume_key: names the file.
        volume: what to store.
        digests: gives ``slice_digests`` of the turned volume, where somebody makes them anyway.
        picture: gives a PNG that shows the volume.
        perceptual: gives its signatures; see ``write_perceptual`` for adding them later.
        pool: its threads pack; the file's bytes do not depend on it.

    Returns:
        The volume as it was stored.

    Raises:
        OSError: there is no room for it.
    """
    stored = to_closest_ras(volume)
    array, _ = in_memory(stored.array_IJK)
    layout = _Layout(array)
    with (
        atomic_path(volume_path(library, volume_key)) as partial,
        _full_disk_named(partial, 2 * layout.chunk_bytes),
    ):
        file = blosc2.empty(
            array.shape,
            dtype=array.dtype,
            urlpath=str(partial),
            mode="w",
            chunks=layout.chunk_shape,
            blocks=layout.block_shape,
            cparams=blosc2.CParams(**layout.packing),
            meta={_META: _geometry(stored)},
        )
        for index, chunk in enumerate((pool.map if pool else map)(layout.pack, layout.chunks())):
            file.schunk.update_chunk(index, chunk)
        file.schunk.vlmeta[_SLICES] = [list(astuple(source)) for source in stored.slices]
        file.schunk.vlmeta[_DIGESTS] = list(
            digests()
            if digests
            else slice_digests(stored.array_IJK, stored.intensity, stored.slice_axis)
        )
        file.schunk.vlmeta[_PICTURE] = picture() if picture else b""
        if perceptual:
            file.schunk.vlmeta[_PERCEPTUAL] = asdict(perceptual())
    return stored


def write_perceptual(library: Path, volume_key: str, found: Perceptual) -> None:
    """Put the signatures of a volume into its file, which stays as it was or changes as a whole.

    Raises:
        OSError: there is no room for a second copy of the file while it is written.
    """
    path = volume_path(library, volume_key)
    with atomic_path(path) as partial:
        shutil.copyfile(path, partial)
        with _full_disk_named(partial, len(found.slice_keys) * _RECORD_BYTES):
            file = blosc2.open(str(partial), mode="a")
            file.schunk.vlmeta[_PERCEPTUAL] = asdict(found)


class _Layout:
    """How an array is cut: a chunk is some whole planes, a block some whole rows of one.

    Both are parts of the array as it lies, so that they are packed where they are.
    """

    def __init__(self, array: VoxelArray) -> None:
        self._array = array
        planes, rows, columns = array.shape
        row_bytes = columns * array.dtype.itemsize
        planes = min(planes, max(1, _CHUNK_BYTES // (rows * row_bytes)))
        self.chunk_shape = planes, rows, columns
        self.block_shape = 1, min(rows, max(1, _BLOCK_BYTES // row_bytes)), columns
        self.packing: dict[str, Any] = {
            "codec": blosc2.Codec.ZSTD,
            "clevel": 1,
            "filters": [blosc2.Filter.BITSHUFFLE],
            "typesize": array.dtype.itemsize,
            "nthreads": 1,
        }

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk, unpacked."""
        return math.prod(self.chunk_shape) * self._array.dtype.itemsize

    def chunks(self) -> Iterator[VoxelArray]:
        """Yield the parts of the array; the last may have fewer planes."""
        planes = self.chunk_shape[0]
        for start in range(0, len(self._array), planes):
            yield self._array[start : start + planes]

    def pack(self, part: VoxelArray) -> bytes:
        """Return a chunk as blosc2 would make it, filled up with zeros to whole planes and blocks.

        Making chunks one by one lets several threads do it; blosc2's own threads order the blocks
        of a chunk by who was first.
        """
        _, rows, columns = self.block_shape
        whole_shape = self.chunk_shape[0], -(-part.shape[1] // rows) * rows, columns
        if part.shape != whole_shape:
            planes, filled_rows, _ = part.shape
            whole = np.zeros(whole_shape, part.dtype)
            whole[:planes, :filled_rows] = part
            part = whole
        block_bytes = rows * columns * part.dtype.itemsize
        packed: bytes = blosc2.compress2(
            np.ascontiguousarray(part), blocksize=block_bytes, **self.packing
        )
        return packed


@contextmanager
def _full_disk_named(path: Path, least_free_bytes: int) -> Iterator[None]:
    """Say so when the disk is full; blosc2 only says that it failed."""
    try:
        yield
    except RuntimeError as error:
        if shutil.disk_usage(path.parent).free < least_free_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def read_volume(library: Path, volume_key: str) -> Volume:
    """Return the volume ``volume_key``, on its closest RAS grid.

    Raises:
        InputError: when it is not there, or its file is damaged or of another format version.
    """
    return _read(library, volume_key, _volume)


def read_picture(library: Path, volume_key: str) -> bytes:
    """Return the PNG that was stored with a volume, empty where there was none.

    Raises:
        InputError: as ``read_volume``.
    """
    return _read(library, volume_key, lambda file, _: bytes(file.schunk.vlmeta[_PICTURE]))


def read_slices(library: Path, volume_key: str) -> SliceRecord:
    """Return which file each slice of the volume ``volume_key`` was read from.

    Raises:
        InputError: as ``read_volume``.
    """
    return _read(library, volume_key, _record)


def _read(library: Path, volume_key: str, part: Callable[[Any, dict[str, Any]], T]) -> T:
    path = volume_path(library, volume_key)
    if not path.is_file():
        raise InputError(
            f"volume {volume_key} is not in the library",
            hint="was the library ingested again after the selection was made? Curate again",
        )
    try:
        file = blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
        meta: dict[str, Any] = dict(file.schunk.meta[_META])
        version = meta["format_version"]
        if version == FORMAT_VERSION:
            return part(file, meta)
    except Exception:  # noqa: BLE001  a damaged file makes the decoder raise anything at all
        raise InputError(
            f"the file of volume {volume_key} is damaged or too large for the memory at hand",
            hint="if it is damaged, ingest its sources again with --repair",
        ) from None
    raise InputError(
        f"volume {volume_key} has format version {version}, this medssl reads {FORMAT_VERSION}",
        hint="ingest into a new library, or its sources again with --overwrite",
    )


def _volume(file: Any, meta: dict[str, Any]) -> Volume:
    slices = _record(file, meta)
    return Volume(
        array_IJK=np.asarray(file[:]).transpose(np.argsort(meta["axes"]))[_flips(meta["steps"])],
        affine_ras=np.array(meta["affine_ras"], dtype=np.float64).reshape(4, 4),
        modality=meta["modality"],
        intensity=meta["intensity"],
        regularized=tuple(meta["regularized"]),
        slice_axis=slices.axis,
        slices=slices.sources,
    )


def _record(file: Any, meta: dict[str, Any]) -> SliceRecord:
    rows = file.schunk.vlmeta[_SLICES]
    sources = (
        SliceSource(file_key=key, frame_index=frame, instance_key=instance, filled=filled)
        for key, frame, instance, filled in rows
    )
    digests = tuple(file.schunk.vlmeta[_DIGESTS])
    return SliceRecord(meta["slice_axis"], tuple(sources), digests, _perceptual(file))


def _perceptual(file: Any) -> Perceptual | None:
    if _PERCEPTUAL not in file.schunk.vlmeta:
        return None
    record: dict[str, Any] = file.schunk.vlmeta[_PERCEPTUAL]
    if record["spec"] != SPEC:
        return None
    parts: dict[str, Any] = {
        name: tuple(part) if isinstance(part, list) else part for name, part in record.items()
    }
    return Perceptual(**parts)


def sweep(library: Path, *, keep: Collection[str]) -> None:
    """Remove volume files that no row of the catalog names: of changed or withdrawn scans."""
    for path in (Path(library) / FOLDER).glob(f"*{SUFFIX}"):
        if path.name.removesuffix(SUFFIX) not in keep:
            path.unlink()


def _flips(steps: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(None, None, step) for step in steps)


def _geometry(volume: Volume) -> dict[str, Any]:
    """Return the meta data.

    ``axes`` go from the slowest in the file to the fastest; ``steps`` are -1 for an axis that is
    stored from its end.
    """
    array = volume.array_IJK
    return {
        "axes": list(memory_order(array)),
        "steps": [-1 if stride < 0 else 1 for stride in array.strides],
        "format_version": FORMAT_VERSION,
        "affine_ras": volume.affine_ras.ravel().tolist(),
        "modality": volume.modality,
        "intensity": volume.intensity,
        "regularized": list(volume.regularized),
        "slice_axis": volume.slice_axis,
    }
