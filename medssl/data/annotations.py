"""Label maps and heat maps beside the volumes of a crop store, on the same grids.

They are NIfTI files of a folder, named by the key of a volume or of a study; where they lie their
affines say, so one map serves every volume of its study. Brought onto the grids once, they are a
crop store of their own: a box of it shows what the same box of the volume shows.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medssl.data.aligned import resample_onto
from medssl.data.entry import StoreEntry
from medssl.data.store import INDEX, CropStore
from medssl.data.store_writer import finished_entry, write_index, write_stored_volume
from medssl.errors import InputError, RejectedFileError
from medssl.io.nifti import read_nifti
from medssl.io.volume import Volume
from medssl.reports.pairs import Pair
from medssl.runs.digest import digest_file, digest_json
from medssl.runs.progress import track

SUFFIXES: Final = (".nii.gz", ".nii")
BACKGROUND: Final = 0


ORGANS: Final = "organ_NIJK"
"""Organ numbers."""
HEAT: Final = "heat_NIJK"
"""How much an expert looked at a voxel, from 0 to 1."""

Annotations = Mapping[str, CropStore]
"""Stores of maps, by what a sample calls them: ``ORGANS``, ``HEAT``."""


def annotation_files(folder: Path, pairs: Sequence[Pair]) -> dict[str, Path]:
    """Return the map of each volume that has one: its own, or else that of its study.

    Raises:
        InputError: The folder has none for any of the volumes.
    """
    there = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    found = dict[str, Path]()
    for pair in pairs:
        for key in pair.volume_keys:
            names = [f"{each}{suffix}" for each in (key, pair.study_key) for suffix in SUFFIXES]
            path = next((there[name] for name in names if name in there), None)
            if path is not None:
                found[key] = path
    if not found:
        raise InputError(
            f"{folder}: no file is named by a volume or a study of the pairs",
            hint="name each map KEY.nii.gz, with the key of a volume or a study in pairs.parquet",
        )
    return found


def annotation_digest(files: Mapping[str, Path]) -> str:
    """Return the SHA-256 (hex) of which volumes have which maps."""
    known = {path: digest_file(path) for path in set(files.values())}
    return digest_json({key: known[path] for key, path in files.items()})


def organ_map(volume: Volume, entry: StoreEntry, organs: Sequence[Sequence[int]]) -> NDArray[Any]:
    """Return organ numbers on the grid of a stored volume, nearest voxel for voxel.

    An organ that touches the border of the volume is left out: part of it may be missing, and what
    a report says of it may be about that part. An axis of one voxel has no border.

    Args:
        volume: Label map, on any grid.
        entry: The stored volume.
        organs: Labels of each organ; the first organ becomes 1.
    """
    number_IJK = np.zeros(volume.array_IJK.shape, np.uint8)
    for number, labels in enumerate(organs, start=1):
        number_IJK[np.isin(volume.array_IJK, labels)] = number
    change = np.linalg.inv(volume.affine_ras) @ np.asarray(entry.affine_ras)
    placed_IJK: NDArray[Any] = ndimage.affine_transform(
        number_IJK,
        change[:3, :3],
        change[:3, 3],
        output_shape=entry.shape,
        order=0,
        mode="grid-constant",
        cval=BACKGROUND,
    )
    cut = {
        number
        for axis, length in enumerate(entry.shape)
        if length > 1
        for plane in (0, length - 1)
        for number in np.unique(placed_IJK.take(plane, axis)).tolist()
    }
    placed_IJK[np.isin(placed_IJK, list(cut))] = BACKGROUND
    return placed_IJK


def heat_map(volume: Volume, entry: StoreEntry) -> NDArray[Any]:
    """Return a heat map on the grid of a stored volume, interpolated, from 0 to its most of 1.

    Raises:
        RejectedFileError: It has values below 0.
    """
    heat_IJK = volume.array_IJK.astype(np.float32)
    if heat_IJK.min() < 0:
        raise RejectedFileError("negative_heat", "a heat map has values of 0 and more")
    most = float(heat_IJK.max())
    return resample_onto(
        heat_IJK / most if most else heat_IJK,
        volume.affine_ras,
        entry.shape,
        np.asarray(entry.affine_ras),
        BACKGROUND,
    )


def write_annotations(
    out: Path,
    store: CropStore,
    files: Mapping[str, Path],
    place: Callable[[Volume, StoreEntry], NDArray[Any]],
) -> None:
    """Write the maps of ``store``'s volumes as a crop store, unless ``out`` is one.

    Args:
        out: The new store.
        store: Where the volumes are.
        files: Map of each volume that has one; others have none in ``out`` either.
        place: What brings one onto the grid of a volume.

    Raises:
        InputError: A map cannot be read; its problem names its volume.
    """
    if (out / INDEX).is_file():
        return
    entries = [
        finished_entry(out, key) or _write(out, store.entry(key), path, place)
        for key, path in track(sorted(files.items()), f"Placing {out.name.replace('_', ' ')}")
    ]
    write_index(out, entries, store.spacing_mm)


def _write(
    out: Path,
    entry: StoreEntry,
    path: Path,
    place: Callable[[Volume, StoreEntry], NDArray[Any]],
) -> StoreEntry:
    try:
        placed_IJK = place(read_nifti(path), entry)
    except RejectedFileError as error:
        raise InputError(
            f"the map of volume {entry.volume_key} cannot be used: {error.problem}",
            hint="correct the file, or take it out of its folder",
        ) from None
    same = entry.model_dump(exclude={"shape", "dtype", "content_digest"})
    about = {**same, "intensity": "arbitrary", "background": BACKGROUND}
    return write_stored_volume(out, placed_IJK, **about)
