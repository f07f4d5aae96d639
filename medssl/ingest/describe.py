"""One row of the catalog from one volume: numbers, vocabulary words and pseudonyms only."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from medssl.io.deidentify import ScanKeys
from medssl.io.dicom.acquisition import Acquisition
from medssl.io.head_fov import head_fov, upright_mm
from medssl.io.narrow import VoxelArray
from medssl.io.volume import Volume
from medssl.library.fingerprints.dct256 import dct256
from medssl.library.fingerprints.voxel_digest import voxel_digest
from medssl.library.small_integers import are_small, histogram


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a volume comes from, beside its pseudonyms."""

    source_format: str
    source_files: int
    file_digest: str
    body_part: str = ""
    image_type: str = ""
    acquisition: Acquisition = field(default_factory=Acquisition)
    suv_factor: float | None = None
    split_by: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


def catalog_row(volume_key: str, keys: ScanKeys, stored: Volume, origin: Origin) -> dict[str, Any]:
    """Return the row of ``stored``, a volume as it lies in the library."""
    full, bbox = dct256(stored.array_IJK, stored.intensity)
    return {
        "volume_key": volume_key,
        "patient_key": keys.patient,
        "study_key": keys.study,
        "series_key": keys.series,
        "frame_key": keys.frame,
        "modality": stored.modality,
        "intensity": stored.intensity,
        "source_format": origin.source_format,
        "source_files": origin.source_files,
        "body_part": origin.body_part,
        "image_type": origin.image_type,
        "split_by": list(origin.split_by),
        "head_fov": head_fov(origin.body_part, upright_mm(stored)),
        **asdict(origin.acquisition),
        "suv_factor": origin.suv_factor,
        **dict(zip(("shape_i", "shape_j", "shape_k"), stored.shape, strict=True)),
        **dict(
            zip(("spacing_i_mm", "spacing_j_mm", "spacing_k_mm"), stored.spacing_mm, strict=True)
        ),
        "affine_ras": stored.affine_ras.ravel().tolist(),
        "dtype": str(stored.array_IJK.dtype),
        **statistics(stored.array_IJK),
        "localizer": False,  # localizers are skipped at the door; the column is for other sources
        "regularized": list(stored.regularized),
        "filled_slices": sum(source.filled for source in stored.slices),
        "flags": sorted(origin.flags),
        "file_digest": origin.file_digest,
        "voxel_digest": voxel_digest(stored.array_IJK, stored.intensity),
        "dct_full": full,
        "dct_bbox": bbox,
    }


def statistics(array: VoxelArray) -> dict[str, float]:
    """Return the extremes, the 1st and 99th percentile, mean and standard deviation of ``array``.

    The percentiles are voxels of the volume, never interpolated.
    """
    if are_small(array.dtype):
        counted = histogram(array)
        low, high = counted.values[0], counted.values[-1]
        p01, p99 = counted.percentiles((1, 99))
        mean, std = counted.mean, counted.std
    else:
        low, high = array.min(), array.max()
        p01, p99 = np.percentile(array, (1, 99), method="inverted_cdf")
        mean, std = array.mean(dtype=np.float64), array.std(dtype=np.float64)
    return {
        "min": float(low),
        "max": float(high),
        "p01": float(p01),
        "p99": float(p99),
        "mean": float(mean),
        "std": float(std),
    }
