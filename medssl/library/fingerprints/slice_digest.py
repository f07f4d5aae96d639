"""A digest of every slice by itself: equal slices are found whatever volumes they are part of.

A part of a series, or an overlapping reconstruction, shares slices with the whole, and nothing of
the volumes' own digests. Each slice is looked at alone, its own range included.
"""

from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from medssl.library.fingerprints.canonical import Canonical, canonical_voxels

SPEC = "slice/3"
HEX_DIGITS = 16


def slice_digests(array_IJK: NDArray[Any], intensity: str, slice_axis: int) -> list[str]:
    """Return the digest of each slice, in order.

    Args:
        array_IJK: voxels on the closest RAS grid.
        intensity: ``"hu"``, or anything else for numbers without a scale; the two differ.
        slice_axis: the axis along which the slices lie.
    """
    return [h.hex()[:HEX_DIGITS] for h in slice_hashes(array_IJK, intensity, slice_axis)]


def slice_hashes(array_IJK: NDArray[Any], intensity: str, slice_axis: int) -> list[bytes]:
    """Return the whole digests, 16 bytes each, of which ``slice_digests`` are the beginning."""
    slices = np.moveaxis(array_IJK, slice_axis, 0)
    shared = canonical_voxels(array_IJK, "hu") if intensity == "hu" else None
    return [
        hash_plane(shared or canonical_voxels(one, intensity), one, intensity) for one in slices
    ]


def hash_plane(canonical: Canonical, plane: NDArray[Any], intensity: str) -> bytes:
    """Return the XXH3 (128 bits) of a plane's canonical values.

    Both axes are walked downwards, the first one fastest: from the right to the left and from the
    front to the back, as scanners put an axial plane into memory, so that nothing is moved.
    """
    scale = "hu" if intensity == "hu" else "arbitrary"
    digest = xxhash.xxh3_128(f"{SPEC}/{scale}/{plane.shape}".encode())
    digest.update(np.ascontiguousarray(canonical(plane[::-1, ::-1].T)).data)
    return digest.digest()
