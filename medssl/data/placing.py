"""A volume to its place in a store: the body of it, or a grid shared with others, resampled."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.data.aligned import Placed, SharedGrid, resample_onto
from medssl.data.foreground import background_value, body_box, body_threshold
from medssl.data.prepare_config import PrepareConfig
from medssl.data.resample import grid_change, resample, resampled_grid
from medssl.errors import InputError, MedSSLError
from medssl.io.geometry import spacing_mm
from medssl.io.volume import Volume
from medssl.library.volumes import read_volume


def place_on_grid(
    volume: Volume, config: PrepareConfig, grid: SharedGrid | None = None
) -> tuple[NDArray[Any], NDArray[np.float64], dict[str, float]]:
    """Cut the air away and resample, or resample onto a grid that is given.

    Returns:
        Voxels and affine on the new grid, and the statistics that ``StoreEntry`` keeps.

    Raises:
        InputError: Some voxels are not finite numbers.
    """
    array_IJK, affine_ras = volume.array_IJK, volume.affine_ras
    lowest, highest = float(array_IJK.min()), float(array_IJK.max())
    if not np.isfinite([lowest, highest]).all():
        raise InputError("some voxels are not finite numbers")
    p005, p995 = (float(value) for value in np.percentile(array_IJK, (0.5, 99.5)))
    above = body_threshold(p005, p995, volume.intensity)
    background = background_value(lowest, volume.intensity)
    if grid is not None:
        new_affine_ras = grid.affine_ras
        new_IJK = resample_onto(array_IJK, affine_ras, grid.shape, new_affine_ras, background)
    else:
        array_IJK, affine_ras = _body(array_IJK, affine_ras, above, config)
        new_IJK, new_affine_ras = resample(array_IJK, affine_ras, config.spacing_mm)
    return (
        new_IJK,
        new_affine_ras,
        {"p005": p005, "p995": p995, "foreground_above": above, "background": background},
    )


def _body(
    array_IJK: NDArray[Any], affine_ras: NDArray[np.float64], above: float, config: PrepareConfig
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the part with the body in it, and its affine."""
    if not config.crop_foreground:
        return array_IJK, affine_ras
    margin = [round(config.margin_mm / spacing) for spacing in spacing_mm(affine_ras)]
    return _part(array_IJK, affine_ras, body_box(array_IJK, above, margin))


def _part(
    array_IJK: NDArray[Any], affine_ras: NDArray[np.float64], box: tuple[slice, slice, slice]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    moved_ras = affine_ras @ grid_change((1, 1, 1), [axis.start for axis in box])
    return array_IJK[box], moved_ras


def grid_of(
    placed: Placed, box: tuple[slice, slice, slice], config: PrepareConfig
) -> tuple[tuple[int, int, int], NDArray[np.float64]] | None:
    """Return the grid over the body in a box of a volume; None where that cannot be read."""
    try:
        volume = read_volume(config.library, placed.volume_key)
    except MedSSLError:
        return None
    p005, p995 = np.percentile(volume.array_IJK, (0.5, 99.5)).tolist()
    above = body_threshold(p005, p995, volume.intensity)
    part_IJK, affine_ras = _body(*_part(volume.array_IJK, volume.affine_ras, box), above, config)
    shape, zoom, offset = resampled_grid(part_IJK.shape, affine_ras, config.spacing_mm)
    return shape, affine_ras @ grid_change(zoom, offset)
