"""A digest of what the voxels say, whatever file, type or axis order they came in.

Two exports of one volume share it: the digest looks at voxel values on the closest-canonical grid
and at nothing else. Spacing and origin are left out on purpose, because published copies of known
data sets were found with both rewritten.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPEC = "voxels/1"
"""Part of every digest: a change of the rules below changes all digests."""

HU_RANGE = (-1024, 3071)
"""What a 12-bit scanner can say; padding below and metal above differ between exports."""

LEVELS = 65536
"""A power of two: scaled integers of up to 16 bits then never fall halfway between two levels."""


def voxel_digest(array_IJK: NDArray[Any], intensity: str) -> str:
    """Return the SHA-256 (hex) of the canonical voxels.

    Hounsfield units are rounded and clipped to ``HU_RANGE``. Arbitrary intensities are mapped
    linearly from their own minimum and maximum to ``LEVELS`` steps, so that an offset, a type
    change or an exact rescaling leaves the digest alone. Values that are not finite count as the
    lowest value.

    Args:
        array_IJK: Voxels on the closest RAS grid (see ``medssl.io.geometry.to_closest_ras``).
        intensity: ``"hu"`` or ``"arbitrary"``; the two never share a digest.
    """
    digest = hashlib.sha256(f"{SPEC}/{intensity}/{array_IJK.shape}".encode())
    low, high = HU_RANGE if intensity == "hu" else finite_range(array_IJK)
    for slab_JK in array_IJK:
        if intensity == "hu":
            canonical = np.rint(_finite(slab_JK, low, high)).astype("<i2")
        else:
            step = _finite(slab_JK, low, high) - low
            canonical = np.rint(step * LEVELS / max(high - low, np.finfo(float).tiny))
            canonical = canonical.astype("<i4")
        digest.update(np.ascontiguousarray(canonical).tobytes())
    return digest.hexdigest()


def finite_range(array: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and largest finite value; (0, 0) when there is none."""
    if array.dtype.kind == "f":
        array = array[np.isfinite(array)]
    return (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)


def _finite(slab: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """Return ``slab`` in float64, clipped; what is not a number becomes ``low``."""
    values = np.nan_to_num(slab.astype(np.float64), nan=low, posinf=low, neginf=low)
    return np.clip(values, low, high)
