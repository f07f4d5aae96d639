"""A coarser grid and back, for corruptions that lose resolution."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medssl.data.resample import resample, resampled_grid
from medssl.io.volume import Volume


def through_grid(volume: Volume, spacing_mm: Sequence[float]) -> NDArray[Any]:
    """Return what is left of a volume after a grid of another spacing, on its own grid again.

    Down without aliasing (``medssl.data.resample``), up linearly.
    """
    exact_IJK = volume.array_IJK.astype(np.float64)
    coarse_IJK, _ = resample(exact_IJK, volume.affine_ras, spacing_mm)
    _, zoom, offset = resampled_grid(volume.shape, volume.affine_ras, spacing_mm)
    back = ndimage.affine_transform(
        coarse_IJK, 1 / zoom, -offset / zoom, output_shape=volume.shape, order=1, mode="nearest"
    )
    return np.asarray(back)
