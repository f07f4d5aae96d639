"""A digest of every slice by itself: equal slices are found whatever volumes they are part of.

A part of a series, or an overlapping reconstruction, shares slices with the whole, and nothing of
the volumes' own digests. Each slice is looked at alone, its own range included.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.library.fingerprints.canonical import Canonical, canonical_voxels

SPEC = "slice/2"
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
    """Return the whole digests, 32 bytes each, of which ``slice_digests`` are the beginning."""
    slices = np.moveaxis(array_IJK, slice_axis, 0)
    shared = canonical_voxels(array_IJK, "hu") if intensity == "hu" else None
    return [
        hash_plane(shared or canonical_voxels(one, intensity), one, intensity) for one in slices
    ]


def hash_plane(canonical: Canonical, plane: NDArray[Any], intensity: str) -> bytes:
    """Return the SHA-256 of a plane's canonical values, the first of its two axes fastest.

    That is how scanners and files of both formats put an axial plane into memory.
    """
    scale = "hu" if intensity == "hu" else "arbitrary"
    digest = hashlib.sha256(f"{SPEC}/{scale}/{plane.shape}".encode())
    digest.update(np.ascontiguousarray(canonical(plane.T)).data)
    return digest.digest()
