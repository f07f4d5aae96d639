"""What a volume and its slices look like: every signature of one pass over the voxels."""

from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from medssl.library.fingerprints import dct256 as volumes
from medssl.library.fingerprints import slice_dct256 as slices

SPEC: Final = f"{volumes.SPEC} {slices.SPEC}"
"""Stands in the catalog and in the table of slices. A library of another spec is completed by
``medssl ingest``, from its own volumes."""


@dataclass(frozen=True, kw_only=True)
class Perceptual:
    """The signatures of a volume, and of each of its slices in the order of the slice axis.

    Attributes:
        dct_full: see ``dct256``.
        dct_bbox: the same, of the body's box.
        foreground_share: share of the voxels that are not air.
        slice_keys: 8 bytes each, see ``slice_dct256``.
        slice_signatures: 32 bytes each.
        slice_foreground: share of each slice that is not air.
        spec: by which rules they were made.
    """

    dct_full: bytes
    dct_bbox: bytes
    foreground_share: float
    slice_keys: tuple[bytes, ...]
    slice_signatures: tuple[bytes, ...]
    slice_foreground: tuple[float, ...]
    spec: str = SPEC


def perceptual(array_IJK: NDArray[Any], intensity: str, slice_axis: int) -> Perceptual:
    """Return every signature of a volume; arguments as for ``slice_dct256``."""
    seen = volumes.look(array_IJK, intensity)
    full, bbox = volumes.dct256(array_IJK, intensity, seen)
    found = slices.slice_dct256(array_IJK, intensity, slice_axis, seen)
    return Perceptual(
        dct_full=full,
        dct_bbox=bbox,
        foreground_share=float(seen.bodies[0].sum() / array_IJK.size),
        slice_keys=tuple(key.tobytes() for key in found.keys_SB),
        slice_signatures=tuple(signature.tobytes() for signature in found.signatures_SB),
        slice_foreground=tuple(found.foreground_S.tolist()),
    )
