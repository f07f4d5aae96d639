"""One row of a crop store: where a stored volume comes from, how it lies, how bright it is."""

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from medssl.config.base import Config
from medssl.io.volume import Intensity

MAPS: Final = ("PD", "R1", "R2s", "MT")
"""Quantitative maps, in the units of hMRI: R1 and R2* in 1/s, PD and MT saturation in percent."""
CONTRASTS: Final = (
    *MAPS,
    *("T1w", "T1ce", "T2w", "T2s", "PDw", "FLAIR", "STIR", "DIR", "MPRAGE", "MP2RAGE"),
    *("SWI", "DWI", "ADC", "FA", "ASL", "BOLD", "TOF", "other"),
)
"""What a volume may be called. Other words would let names of people in."""

Row4 = tuple[float, float, float, float]


class StoreEntry(Config):
    """What is known about one stored volume; kept in the volume's own file and in the index."""

    volume_key: str
    """The library's pseudonym of the volume."""
    patient_key: str
    """The pseudonym of the patient."""
    split: str
    """train, val or test, as the selection drew it."""
    modality: str
    """CT, MR, ... or unknown."""
    intensity: Intensity
    """Unit of the voxel values."""
    shape: tuple[int, int, int]
    """Voxels along I, J, K."""
    dtype: str
    """NumPy's name of the voxel type."""
    spacing_mm: tuple[float, float, float]
    """Distance between voxel centres along I, J, K."""
    affine_ras: tuple[Row4, Row4, Row4, Row4]
    """Voxel index to mm, RAS+."""
    background: float
    """What lies outside the volume: air for HU, the lowest value otherwise."""
    foreground_above: float
    """Voxels above this are taken for body."""
    p005: float
    """0.5th percentile of the values of the whole volume, before anything was cropped."""
    p995: float
    """99.5th percentile, likewise."""
    content_digest: str
    """SHA-256 of shape, type and voxels."""
    slice_axis: int | None = None
    """The axis that ``slice_weights`` belong to."""
    slice_weights: tuple[float, ...] | None = None
    """How much each plane across ``slice_axis`` is worth; none where all are worth the same."""
    view_of: str | None = None
    """The volume that this one is another reconstruction of; none for a scan's first view."""
    group: str | None = None
    """Volumes of one group lie on one grid, voxel by voxel; none for a volume alone on its own."""
    contrast: str | None = None
    """Which sequence or quantitative map it is, a word of ``CONTRASTS``, where that is known."""

    @property
    def line(self) -> str:
        """The entry as one line of JSON; what it does not have is left out."""
        return self.model_dump_json(exclude_none=True)


def content_digest(array_IJK: NDArray[Any]) -> str:
    """Return the SHA-256 (hex) of an array's shape, type and values, whatever its memory order."""
    digest = hashlib.sha256(f"{array_IJK.shape} {array_IJK.dtype.str}".encode())
    digest.update(np.ascontiguousarray(array_IJK).data)
    return digest.hexdigest()


def entries_digest(entries: Iterable[StoreEntry]) -> str:
    """Return the SHA-256 (hex) of all entries, and so of all voxels, in the order of their keys."""
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: entry.volume_key):
        digest.update(entry.line.encode() + b"\n")
    return digest.hexdigest()
