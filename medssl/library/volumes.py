"""One volume of the library in one file: voxels on the closest RAS grid, and their geometry.

The file's axes are in the order in which the reader had them in memory, slices first for DICOM, so
that nothing is transposed on the way; its meta data say which is which.
"""

import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import blosc2
import numpy as np

from medssl.errors import InputError
from medssl.io.geometry import memory_order, to_closest_ras
from medssl.io.narrow import VoxelArray
from medssl.io.volume import SliceSource, Volume
from medssl.library.fingerprints.slice_digest import slice_digests
from medssl.runs.folder import atomic_path

FOLDER, SUFFIX = "volumes", ".b2nd"
FORMAT_VERSION = 2
_META, _SLICES, _DIGESTS = "medssl", "slices", "slice_digests"
_BLOCK_VOXELS, _CHUNK_VOXELS = 32, 128
_LEAST_FREE_BYTES = 2 * 2 * _CHUNK_VOXELS**3
"""Where less is free, a chunk may not have fitted: the largest, and as much again."""


T = TypeVar("T")


@dataclass(frozen=True)
class SliceRecord:
    """Where the slices of a stored volume come from.

    Attributes:
        axis: the axis of the stored array along which the slices lie.
        sources: one per index of that axis; none for a volume read from a NIfTI file.
        digests: one per index of that axis, whatever the format.
    """

    axis: int
    sources: tuple[SliceSource, ...]
    digests: tuple[str, ...]


def volume_path(library: Path, volume_key: str) -> Path:
    """Return where the volume ``volume_key`` lies."""
    return Path(library) / FOLDER / f"{volume_key}{SUFFIX}"


def write_volume(
    library: Path,
    volume_key: str,
    volume: Volume,
    digests: Callable[[], Sequence[str]] | None = None,
) -> Volume:
    """Store ``volume``, turned to the closest RAS grid; the file appears whole or not at all.

    Args:
        library: the library's folder.
        volume_key: names the file.
        volume: what to store.
        digests: gives ``slice_digests`` of the turned volume, where somebody makes them anyway.

    Returns:
        The volume as it was stored.

    Raises:
        OSError: there is no room for it.
    """
    stored = to_closest_ras(volume)
    axes = memory_order(stored.array_IJK)
    array = stored.array_IJK.transpose(axes)
    with atomic_path(volume_path(library, volume_key)) as partial, _full_disk_named(partial):
        file = blosc2.empty(
            array.shape,
            dtype=array.dtype,
            urlpath=str(partial),
            mode="w",
            chunks=tuple(min(_CHUNK_VOXELS, n) for n in array.shape),
            blocks=tuple(min(_BLOCK_VOXELS, n) for n in array.shape),
            cparams=blosc2.CParams(
                codec=blosc2.Codec.ZSTD,
                clevel=1,
                filters=[blosc2.Filter.BITSHUFFLE],
                typesize=array.dtype.itemsize,
                nthreads=1,
            ),
            meta={_META: _geometry(stored) | {"axes": list(axes)}},
        )
        for corner in product(*(range(0, n, _CHUNK_VOXELS) for n in array.shape)):
            chunk = tuple(slice(start, start + _CHUNK_VOXELS) for start in corner)
            file[chunk] = np.ascontiguousarray(array[chunk])
        file.schunk.vlmeta[_SLICES] = [list(astuple(source)) for source in stored.slices]
        file.schunk.vlmeta[_DIGESTS] = list(
            digests()
            if digests
            else slice_digests(stored.array_IJK, stored.intensity, stored.slice_axis)
        )
    return stored


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    """Say so when the disk is full; blosc2 only says that it failed."""
    try:
        yield
    except RuntimeError as error:
        if shutil.disk_usage(path.parent).free < _LEAST_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def read_volume(library: Path, volume_key: str) -> Volume:
    """Return the volume ``volume_key``, on its closest RAS grid.

    Raises:
        InputError: when it is not there, or its file is damaged or of another format version.
    """
    return _read(library, volume_key, _volume)


def read_middle_planes(library: Path, volume_key: str) -> tuple[VoxelArray, VoxelArray, VoxelArray]:
    """Return the middle (I, J), (I, K) and (J, K) plane of a volume; the rest is not decoded.

    Raises:
        InputError: as ``read_volume``.
    """
    return _read(library, volume_key, _middle_planes)


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
        array_IJK=np.asarray(file[:]).transpose(np.argsort(meta["axes"])),
        affine_ras=np.array(meta["affine_ras"], dtype=np.float64).reshape(4, 4),
        modality=meta["modality"],
        intensity=meta["intensity"],
        regularized=tuple(meta["regularized"]),
        slice_axis=slices.axis,
        slices=slices.sources,
    )


def _middle_planes(file: Any, meta: dict[str, Any]) -> tuple[VoxelArray, VoxelArray, VoxelArray]:
    axes = meta["axes"]

    def plane(across: int) -> VoxelArray:
        """Return the plane of the two other axes, in their order."""
        stored = axes.index(across)
        middle = np.asarray(file[(slice(None),) * stored + (file.shape[stored] // 2,)])
        left = [axis for axis in axes if axis != across]
        return middle if left[0] < left[1] else middle.T

    return plane(2), plane(1), plane(0)


def _record(file: Any, meta: dict[str, Any]) -> SliceRecord:
    rows = file.schunk.vlmeta[_SLICES]
    sources = (
        SliceSource(file_key=key, frame_index=frame, instance_key=instance, filled=filled)
        for key, frame, instance, filled in rows
    )
    digests = tuple(file.schunk.vlmeta[_DIGESTS])
    return SliceRecord(meta["slice_axis"], tuple(sources), digests)


def sweep(library: Path, *, keep: Collection[str]) -> None:
    """Remove volume files that no row of the catalog names: of changed or withdrawn scans."""
    for path in (Path(library) / FOLDER).glob(f"*{SUFFIX}"):
        if path.name.removesuffix(SUFFIX) not in keep:
            path.unlink()


def _geometry(volume: Volume) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "affine_ras": volume.affine_ras.ravel().tolist(),
        "modality": volume.modality,
        "intensity": volume.intensity,
        "regularized": list(volume.regularized),
        "slice_axis": volume.slice_axis,
    }
