"""A volume as its slices: where they lie, what is known of them, and their voxels when needed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medssl.io.volume import Volume
from medssl.library.fingerprints.dct256 import quantise

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

    Pixels on a border are shared by area. All sums are whole numbers below 2^53, so doubles hold
    them exactly and the result is the same for any order of summation, thread or library.
    """
    height, width = (_shares(length, min(cells, length)) for length in plane.shape)
    sums = height @ plane.astype(np.float64) @ width.T
    means: NDArray[np.int64] = sums.astype(np.int64) // plane.size
    return means


def _shares(length: int, cells: int) -> NDArray[np.float64]:
    """Return (cells, length) how much of each pixel lies in each cell, in 1/cells of a pixel."""
    begin, pixel = np.arange(cells)[:, None] * length, np.arange(length) * cells
    shared = np.minimum(begin + length, pixel + cells) - np.maximum(begin, pixel)
    weights: NDArray[np.float64] = np.maximum(shared, 0).astype(np.float64)
    return weights
