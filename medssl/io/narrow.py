"""The smallest voxel type that holds every value exactly."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

VoxelArray: TypeAlias = NDArray[Any]

VOLUME_DTYPES = tuple(np.dtype(t) for t in ("uint8", "int16", "uint16", "int32", "float32"))
"""What a Volume may hold, in native byte order."""


def narrow(array: VoxelArray) -> VoxelArray:
    """Return ``array`` in a type of ``VOLUME_DTYPES``, without changing any integer.

    A type of the list is kept. Another integer type becomes int16, uint16 or int32, the first
    that holds its values, and float32 when none does. Floating point becomes float32.
    """
    native = array.dtype.newbyteorder("=")
    if native in VOLUME_DTYPES:
        return array.astype(native, copy=False)
    if native.kind == "f":
        with np.errstate(over="ignore"):  # an overflow becomes infinity, which readers look for
            return array.astype(np.float32)
    if native.kind not in "iu":
        raise ValueError(f"voxels of type {array.dtype} are not real numbers")
    return narrow_integers(array)


def narrow_integers(array: VoxelArray) -> VoxelArray:
    """Return integers as int16, uint16 or int32, the first that holds them, else as float32."""
    lowest, highest = int(array.min()), int(array.max())
    for candidate in (np.int16, np.uint16, np.int32):
        limits = np.iinfo(candidate)
        if limits.min <= lowest and highest <= limits.max:
            return array.astype(candidate, copy=False)
    return array.astype(np.float32)
