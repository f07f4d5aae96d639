"""Are these numbers Hounsfield units? Judged by the values, for files that do not say."""

import math

import numpy as np

from medssl.io.narrow import VoxelArray

AIR_HU = -1000

LOWEST_SCANNED_HU = -1200.0
"""Below air with its noise lies only what scanners write outside their field of view."""

FAT_OR_AIR_HU = -50.0
_SOFT_TISSUE_HU = (-200.0, 300.0)
_LEAST_TISSUE = 0.01
_MOST_METAL_HU = 4000.0
_MOST_VOXELS = 4_000_000
"""More are sampled: neither the shares nor the percentiles need them."""


def looks_like_hounsfield(array: VoxelArray) -> bool:
    """Return whether ``array`` can be a CT in Hounsfield units.

    The field of view of a scanner always holds fat or air (below -50 HU) and tissue (within
    -200 to 300 HU); numbers shifted by 1024, windowed to 0..255 or scaled to 0..1 do not have
    both. Values below -1200 are padding and are not looked at. Of a large volume every second
    (third, ...) voxel along each axis is looked at.
    """
    step = math.ceil((array.size / _MOST_VOXELS) ** (1 / array.ndim))
    sample = array[(slice(None, None, max(1, step)),) * array.ndim]
    inside = sample[sample > LOWEST_SCANNED_HU]
    if inside.size == 0:
        return False
    low, high = np.percentile(inside, (0.5, 99.5))
    tissue = np.mean((inside >= _SOFT_TISSUE_HU[0]) & (inside <= _SOFT_TISSUE_HU[1]))
    return bool(low <= FAT_OR_AIR_HU and high <= _MOST_METAL_HU and tissue >= _LEAST_TISSUE)
