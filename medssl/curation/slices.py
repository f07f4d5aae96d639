"""A volume as its slices: where they lie, what is known of them, and their voxels when needed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from medssl.io.volume import Volume
from medssl.library.fingerprints.dct256 import quantise
from medssl.library.fingerprints.slice_dct256 import slice_dct256
from medssl.library.fingerprints.voxel_digest import voxel_digest

Levels = NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class VolumeSlices:
    """The slices of one volume in anatomical order: that of the stored array's slice axis.

    Attributes:
        volume_key: pseudonym of the volume.
        voxel_digest: of its voxels; seeds what is drawn, whatever the pseudonym.
        slice_axis: the axis of the stored array along which the slices lie.
        positions_mm: (N,) place of each slice along its normal, ascending.
        foreground: (N,) share of each slice that is not air.
        dct256: (N,) signatures of 32 bytes.
        read: gives the volume; called only by strategies that look at voxels.
    """

    volume_key: str
    voxel_digest: str
    slice_axis: int
    positions_mm: NDArray[np.float64]
    foreground: NDArray[np.float64]
    dct256: tuple[bytes, ...]
    read: Callable[[], Volume]

    @classmethod
    def of(cls, volume: Volume, volume_key: str = "") -> Self:
        """Return the slices of a volume that lies in no library, measured as `ingest` does."""
        found = slice_dct256(volume.array_IJK, volume.intensity, volume.slice_axis)
        return cls(
            volume_key=volume_key,
            voxel_digest=voxel_digest(volume.array_IJK, volume.intensity),
            slice_axis=volume.slice_axis,
            positions_mm=slice_positions_mm(
                volume.affine_ras, volume.slice_axis, len(found.foreground_S)
            ),
            foreground=found.foreground_S.astype(np.float64),
            dct256=tuple(row.tobytes() for row in found.signatures_SB),
            read=lambda: volume,
        )

    def __len__(self) -> int:
        return len(self.positions_mm)

    @cached_property
    def volume(self) -> Volume:
        """The volume itself, read once."""
        return self.read()

    @cached_property
    def levels(self) -> Levels:
        """(N, H, W) voxels as 16 bits: a fixed window of HU, or between the outer percentiles."""
        volume = self.volume
        levels_IJK = quantise(volume.array_IJK, volume.intensity)
        return np.moveaxis(levels_IJK, self.slice_axis, 0)

    def pooled(self, cells: int) -> NDArray[np.int64]:
        """Return (N, h, w) mean levels of at most ``cells`` by ``cells`` areas of each slice."""
        return np.stack([shrink(plane, cells) for plane in self.levels])


def slice_positions_mm(
    affine_ras: NDArray[np.float64], slice_axis: int, slices: int
) -> NDArray[np.float64]:
    """Return (N,) where slices lie along their axis, in mm of the scanner's frame."""
    step_mm = affine_ras[:3, slice_axis]
    spacing_mm = float(np.linalg.norm(step_mm))
    first_mm = float(affine_ras[:3, 3] @ step_mm) / spacing_mm
    positions_mm: NDArray[np.float64] = first_mm + spacing_mm * np.arange(slices, dtype=np.float64)
    return positions_mm


def shrink(plane: Levels, cells: int) -> NDArray[np.int64]:
    """Return the mean of each cell of a plane, rounded down; an axis is never stretched.

    Pixels on a border are shared by area. Sums are whole numbers below 2^53: doubles hold them
    exactly, whatever order they are added in.
    """
    rows = _cell_sums(plane, cells).astype(np.float64)
    sums = rows @ _shares(plane.shape[1], min(cells, plane.shape[1]))
    means: NDArray[np.int64] = sums.astype(np.int64) // plane.size
    return means


def _cell_sums(lines: Levels, cells: int) -> NDArray[np.int64]:
    """Return the sums over cells of the first axis, in 1/cells of a line."""
    length = len(lines)
    if length <= cells:
        return lines.astype(np.int64) * length  # a cell is a line, and 1/length of it the unit
    padded = np.zeros((2 + length, *lines.shape[1:]), np.int64)
    padded[1:-1] = lines
    whole, part = np.divmod(np.arange(cells + 1) * length, cells)
    before = np.cumsum(padded[:-1], axis=0)[whole]
    at_border = before * cells + padded[whole + 1] * part[:, None]
    found: NDArray[np.int64] = np.diff(at_border, axis=0)
    return found


@cache
def _shares(length: int, cells: int) -> NDArray[np.float64]:
    """Return (length, cells) how much of each pixel lies in each cell, in 1/cells of a pixel."""
    begin, pixel = np.arange(cells)[None, :] * length, np.arange(length)[:, None] * cells
    shared = np.minimum(begin + length, pixel + cells) - np.maximum(begin, pixel)
    weights: NDArray[np.float64] = np.maximum(shared, 0).astype(np.float64)
    return weights
