"""One row of the catalog from one volume: numbers, vocabulary words and pseudonyms only."""

from dataclasses import asdict, dataclass, field
from typing import Any

from medssl.ingest.measure import Measured
from medssl.io.deidentify import ScanKeys
from medssl.io.dicom.acquisition import Acquisition
from medssl.io.head_fov import head_fov, upright_mm
from medssl.library.fingerprints.perceptual import Perceptual


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a volume comes from, beside its pseudonyms."""

    source_format: str
    source_files: int
    body_part: str = ""
    image_type: str = ""
    acquisition: Acquisition = field(default_factory=Acquisition)
    suv_factor: float | None = None
    split_by: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


def catalog_row(
    volume_key: str, keys: ScanKeys, measured: Measured, origin: Origin
) -> dict[str, Any]:
    """Return the row of a volume as it lies in the library."""
    stored = measured.volume
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
        **measured.statistics,
        "localizer": False,  # localizers are skipped at the door; the column is for other sources
        "regularized": list(stored.regularized),
        "filled_slices": sum(source.filled for source in stored.slices),
        "flags": sorted(origin.flags),
        "file_digest": measured.file_digest,
        "voxel_digest": measured.voxel_digest,
        "slice_axis": stored.slice_axis,
        **perceptual_columns(measured.perceptual),
    }


def perceptual_columns(found: Perceptual) -> dict[str, Any]:
    """Return the columns of a row that say what its volume looks like."""
    return {
        "dct_full": found.dct_full,
        "dct_bbox": found.dct_bbox,
        "foreground_share": found.foreground_share,
        "signature_spec": found.spec,
    }
