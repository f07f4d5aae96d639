"""A digest of what the voxels say, whatever file, type or axis order they came in.

Two exports of one volume share it: the digest looks at voxel values on the closest-canonical grid
and at nothing else. Spacing and origin are left out on purpose, because published copies of known
data sets were found with both rewritten.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medssl.library.small_integers import are_small, look_up, table_of

SPEC = "voxels/1"
"""Part of every digest: a change of the rules below changes all digests."""

HU_RANGE = (-1024, 3071)
"""What a 12-bit scanner can say; padding below and metal above differ between exports."""

Canonical: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]

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
        intensity: ``"hu"``, or anything else for numbers without a scale of their own; the two
            never share a digest.
    """
    scale = "hu" if intensity == "hu" else "arbitrary"
    digest = hashlib.sha256(f"{SPEC}/{scale}/{array_IJK.shape}".encode())
    canonical = canonical_voxels(array_IJK, intensity)
    for slab_JK in array_IJK:
        digest.update(np.ascontiguousarray(canonical(slab_JK)).data)
    return digest.hexdigest()


def canonical_voxels(array_IJK: NDArray[Any], intensity: str) -> Canonical:
    """Return a function that gives the canonical values of any part of ``array_IJK``."""
    low, high = HU_RANGE if intensity == "hu" else finite_range(array_IJK)

    def canonical(values: NDArray[np.float64]) -> NDArray[Any]:
        finite = np.clip(np.nan_to_num(values, nan=low, posinf=low, neginf=low), low, high)
        if intensity == "hu":
            return np.rint(finite).astype("<i2")
        return np.rint((finite - low) * LEVELS / max(high - low, np.finfo(float).tiny)).astype(
            "<i4"
        )

    if are_small(array_IJK.dtype):
        return partial(look_up, table_of(array_IJK.dtype, canonical))
    return lambda part: canonical(part.astype(np.float64))


def finite_range(array: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and largest finite value; (0, 0) when there is none."""
    if array.dtype.kind == "f":
        array = array[np.isfinite(array)]
    return (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
