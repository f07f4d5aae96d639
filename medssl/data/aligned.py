"""Volumes of one study on one grid: which belong together, which grid, and how they get there."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medssl.data.contrast_table import Said
from medssl.data.entry import MAPS
from medssl.data.resample import as_type, smoothing_sigma
from medssl.errors import InputError
from medssl.library.catalog import read_catalog_table
from medssl.runs.digest import digest_json

GROUP_LENGTH: Final = 26
ALMOST: Final = 1e-4
"""Voxels by which affines of one grid may differ."""
Affine = NDArray[np.float64]
Box = tuple[slice, slice, slice]


class Placed(NamedTuple):
    """Where a volume lies, by the catalog."""

    volume_key: str
    patient_key: str
    shape: tuple[int, int, int]
    affine_ras: Affine

    @property
    def voxel_mm3(self) -> float:
        """Size of a voxel."""
        return float(abs(np.linalg.det(self.affine_ras[:3, :3])))


GridOf = Callable[[Placed, Box], tuple[tuple[int, int, int], Affine] | None]


class SharedBox(NamedTuple):
    """A part of one volume that others show as well."""

    reference: Placed
    members: tuple[Placed, ...]
    """All that show it, the reference included."""
    box: Box
    """In voxels of the reference."""


class SharedGrid(NamedTuple):
    """A grid that several volumes are put on."""

    members: frozenset[str]
    shape: tuple[int, int, int]
    affine_ras: Affine

    @property
    def group(self) -> str:
        """What entries call it: a digest of the keys, which are pseudonyms already."""
        return digest_json(sorted(self.members))[:GROUP_LENGTH]


def read_frames(
    library: Path, keys: Iterable[str], said: Mapping[str, Said]
) -> list[tuple[Placed, ...]]:
    """Return the volumes that share a frame of reference, for each that several share.

    They are of one patient and one study and state the same frame, as DICOM does; or a table says
    that they belong together.

    Raises:
        InputError: The catalog cannot be read, a group of the table holds volumes of several
            patients, or two maps of one name.
    """
    columns = ["volume_key", "patient_key", "study_key", "frame_key"]
    geometry = ["shape_i", "shape_j", "shape_k", "affine_ras"]
    rows = read_catalog_table(library, columns + geometry).to_pylist()
    wanted, frames = set(keys), dict[tuple[str, ...], list[Placed]]()
    for row in sorted(rows, key=lambda row: str(row["volume_key"])):
        if row["volume_key"] not in wanted:
            continue
        group = said.get(row["volume_key"], Said("", "")).group
        stated = (row["patient_key"], row["study_key"], row["frame_key"])
        frame = (group,) if group else tuple(map(str, stated)) if row["frame_key"] else ()
        if frame:
            frames.setdefault(frame, []).append(_placed(row))
    shared = [tuple(placed) for placed in frames.values() if len(placed) > 1]
    for placed in shared:
        _check(placed, said)
    return shared


def _placed(row: Mapping[str, Any]) -> Placed:
    shape = row["shape_i"], row["shape_j"], row["shape_k"]
    affine_ras = np.asarray(row["affine_ras"], np.float64).reshape(4, 4)
    return Placed(str(row["volume_key"]), str(row["patient_key"]), shape, affine_ras)


def _check(placed: Sequence[Placed], said: Mapping[str, Said]) -> None:
    if len({each.patient_key for each in placed}) > 1:
        raise InputError(
            f"a group of the table of contrasts holds volumes of several patients, such as "
            f"{placed[0].volume_key}",
            hint="give each patient's volumes a group of their own",
        )
    names = [said[p.volume_key].contrast for p in placed if p.volume_key in said]
    twice = sorted({name for name in names if name in MAPS and names.count(name) > 1})
    if twice:
        raise InputError(
            f"the group of the volume {placed[0].volume_key} has more than one {twice[0]}",
            hint="name one map of each kind in the table of contrasts, or give two studies of a "
            "patient groups of their own",
        )


def shared_box(placed: Sequence[Placed], min_overlap: float) -> SharedBox | None:
    """Return what the first of these volumes shares with as many others as possible.

    Others join, those with the largest common part first, while the part that all show is at
    least ``min_overlap`` of the first volume's box. None where no other can join.
    """
    reference, *others = placed
    to_reference: Affine = np.linalg.inv(reference.affine_ras).astype(np.float64)
    whole = np.array([[-0.5] * 3, np.subtract(reference.shape, 0.5)])
    boxes = {p.volume_key: _common(whole, _corners(p, to_reference)) for p in others}
    others = sorted(others, key=lambda p: (-_volume(boxes[p.volume_key]), p.volume_key))
    box_23, members = whole, [reference]
    for other in others:
        smaller_23 = _common(box_23, boxes[other.volume_key])
        if _volume(smaller_23) >= min_overlap * _volume(whole):
            box_23 = smaller_23
            members.append(other)
    starts = np.ceil(box_23[0] + 0.5 - ALMOST).astype(int)
    stops = np.floor(box_23[1] + 0.5 + ALMOST).astype(int)
    if len(members) == 1 or (stops <= starts).any():
        return None
    i, j, k = (slice(a, b) for a, b in zip(starts.tolist(), stops.tolist(), strict=True))
    return SharedBox(reference, tuple(members), (i, j, k))


def shared_grids(placed: Iterable[Placed], min_overlap: float, grid_of: GridOf) -> list[SharedGrid]:
    """Return the grids that volumes of one frame are put on, the finest volume's first.

    Args:
        placed: The volumes.
        min_overlap: As in :func:`shared_box`.
        grid_of: Gives shape and affine of the grid over a box of a volume; None where that volume
            cannot be read, and another must do.
    """
    left = sorted(placed, key=lambda p: (round(p.voxel_mm3, 6), p.volume_key))
    grids: list[SharedGrid] = []
    while len(left) > 1:
        shared = shared_box(left, min_overlap)
        grid = grid_of(shared.reference, shared.box) if shared else None
        taken = frozenset([left[0].volume_key])
        if shared and grid:
            taken = frozenset(member.volume_key for member in shared.members)
            grids.append(SharedGrid(taken, *grid))
        left = [p for p in left if p.volume_key not in taken]
    return grids


def _corners(placed: Placed, to_reference: Affine) -> NDArray[np.float64]:
    """Return the lowest and the highest corner of a volume in voxels of another."""
    corners = np.array(list(product(*((-0.5, n - 0.5) for n in placed.shape))))
    change = to_reference @ placed.affine_ras
    there = corners @ change[:3, :3].T + change[:3, 3]
    return np.array([there.min(0), there.max(0)])


def _common(a_23: NDArray[np.float64], b_23: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([np.maximum(a_23[0], b_23[0]), np.minimum(a_23[1], b_23[1])])


def _volume(box_23: NDArray[np.float64]) -> float:
    return float(np.maximum(box_23[1] - box_23[0], 0).prod())


def resample_onto(
    array_IJK: NDArray[Any],
    affine_ras: Affine,
    shape: tuple[int, int, int],
    grid_ras: Affine,
    background: float,
) -> NDArray[Any]:
    """Resample a volume onto any grid, linearly and without aliasing.

    Along each axis of the volume it is smoothed for as long a step as a voxel of the grid takes
    on it, so that a grid of the same directions gives what ``resample`` gives.

    Args:
        array_IJK: Voxels of any integer or float type.
        affine_ras: (4, 4), voxel index to mm.
        shape: Voxels of the grid.
        grid_ras: (4, 4), its voxel index to mm.
        background: What lies beyond the volume, from one voxel outside its border on.

    Returns:
        The voxels on the grid in their own type, integers rounded.
    """
    change = np.linalg.inv(affine_ras) @ grid_ras
    exact = array_IJK.dtype.kind in "iu" and array_IJK.dtype.itemsize >= 4  # noqa: PLR2004
    values_IJK: NDArray[np.floating[Any]] = array_IJK.astype(np.float64 if exact else np.float32)
    for axis, step in enumerate(np.linalg.norm(change[:3, :3], axis=1).tolist()):
        if step > 1:
            sigma = smoothing_sigma(step)
            values_IJK = ndimage.gaussian_filter1d(values_IJK, sigma, axis=axis, mode="nearest")
    values_IJK = np.pad(values_IJK, 1, mode="edge")  # a voxel reaches half a step beyond its centre
    values_IJK = ndimage.affine_transform(
        values_IJK,
        change[:3, :3],
        change[:3, 3] + 1,
        output_shape=shape,
        order=1,
        mode="constant",
        cval=background,
    )
    return as_type(values_IJK, array_IJK.dtype)
