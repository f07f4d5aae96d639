"""A digest of every slice by itself: equal slices are found whatever volumes they are part of.

A part of a series, or an overlapping reconstruction, shares slices with the whole, and nothing of
the volumes' own digests. Each slice is looked at alone, its own range included.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.io.geometry import contiguous
from medssl.library.fingerprints.voxel_digest import canonical_voxels

SPEC = "slice/1"
HEX_DIGITS = 16
_SLAB = 16


def slice_digests(array_IJK: NDArray[Any], intensity: str, slice_axis: int) -> list[str]:
    """Return the digest of each slice, in order.

    Args:
        array_IJK: voxels on the closest RAS grid.
        intensity: ``"hu"``, or anything else for numbers without a scale; the two differ.
        slice_axis: the axis along which the slices lie.
    """
    slices = np.moveaxis(array_IJK, slice_axis, 0)
    start = f"{SPEC}/{'hu' if intensity == 'hu' else 'arbitrary'}/{slices.shape[1:]}".encode()
    shared = canonical_voxels(array_IJK, "hu") if intensity == "hu" else None
    digests = []
    for first in range(0, len(slices), _SLAB):
        for one in contiguous(slices[first : first + _SLAB]):
            canonical = shared or canonical_voxels(one[None], intensity)
            digest = hashlib.sha256(start)
            digest.update(np.ascontiguousarray(canonical(one)).data)
            digests.append(digest.hexdigest()[:HEX_DIGITS])
    return digests
