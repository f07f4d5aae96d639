"""A digest of what the voxels say, whatever file, type or axis order they came in.

Two exports of one volume share it: the digest looks at voxel values on the closest-canonical grid
and at nothing else. Spacing and origin are left out on purpose, because published copies of known
data sets were found with both rewritten.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from medssl.library.fingerprints.canonical import canonical_voxels
from medssl.library.fingerprints.slice_digest import HEX_DIGITS, hash_plane, slice_hashes

SPEC = "voxels/3"
"""Part of every digest: a change of the rules below changes all digests."""

_HEAD_AXIS = 2


@dataclass(frozen=True)
class VoxelDigests:
    """The digest of a volume, and of each of its slices."""

    volume: str
    slices: tuple[str, ...]


def voxel_digests(array_IJK: NDArray[Any], intensity: str, slice_axis: int) -> VoxelDigests:
    """Return ``voxel_digest`` and ``slice_digests`` together: axial CT is looked at once."""
    hashes = slice_hashes(array_IJK, intensity, slice_axis)
    shared = intensity == "hu" and slice_axis == _HEAD_AXIS
    planes = hashes if shared else _planes(array_IJK, intensity)
    scale = "hu" if intensity == "hu" else "arbitrary"
    digest = xxhash.xxh3_128(f"{SPEC}/{scale}/{array_IJK.shape}".encode() + b"".join(planes))
    return VoxelDigests(digest.hexdigest(), tuple(h.hex()[:HEX_DIGITS] for h in hashes))


def voxel_digest(array_IJK: NDArray[Any], intensity: str) -> str:
    """Return the XXH3 (128 bits, hex) of that of the canonical planes, from foot to head.

    Hounsfield units are rounded and clipped to ``HU_RANGE``. Arbitrary intensities are mapped
    linearly from their own minimum and maximum to ``LEVELS`` steps, so that an offset, a type
    change or an exact rescaling leaves the digest alone. Values that are not finite count as the
    lowest value.

    Args:
        array_IJK: Voxels on the closest RAS grid (see ``medssl.io.geometry.to_closest_ras``).
        intensity: ``"hu"``, or anything else for numbers without a scale of their own; the two
            never share a digest.
    """
    return voxel_digests(array_IJK, intensity, _HEAD_AXIS).volume


def _planes(array_IJK: NDArray[Any], intensity: str) -> list[bytes]:
    if intensity == "hu":
        return slice_hashes(array_IJK, intensity, _HEAD_AXIS)
    canonical = canonical_voxels(array_IJK, intensity)
    return [hash_plane(canonical, plane, intensity) for plane in np.moveaxis(array_IJK, 2, 0)]
