"""What headers say of two volumes: one acquisition, two of one visit, two visits, or nothing.

Headers settle what pixels cannot: a scan repeated without a movement looks like another
reconstruction of the first, and only the time at which it was made tells. NIfTI files say nothing
of this, so that pixels must do for them, with more asked.
"""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from medssl.curation.rules.base import CatalogRow, shape_of

Relation = Literal[
    "strangers", "one_patient", "other_study", "other_acquisition", "same_acquisition"
]
"""``one_patient``: one person's, and headers do not say more."""

Corner = NDArray[np.float64]

SAME_START_S: Final = 5.0
"""Phases of contrast follow each other by more; reconstructions of one acquisition that begin at
another slice, by less."""
SAME_VALUE: Final = 0.01
"""Relative difference up to which two settings of a scanner are one."""
SETTINGS: Final = (
    "echo_time_ms",
    "repetition_time_ms",
    "inversion_time_ms",
    "flip_angle_deg",
    "b_value",
    "kvp",
)
"""What no reconstruction changes: where one of them differs, something else was measured."""

FACTS: Final = (
    "volume_key",
    "patient_key",
    "study_key",
    "series_key",
    "frame_key",
    "acquisition_key",
    "acquisition_s",
    "source_format",
    "modality",
    "affine_ras",
    "shape_i",
    "shape_j",
    "shape_k",
    *SETTINGS,
)
"""What ``relation`` reads of a row."""


def relation(a: CatalogRow, b: CatalogRow) -> Relation:
    """Return what the two rows' headers say."""
    if not a["patient_key"] or a["patient_key"] != b["patient_key"]:
        return "strangers"
    if not (_from_dicom(a) and _from_dicom(b)):
        return "one_patient"
    if a["study_key"] and b["study_key"] and a["study_key"] != b["study_key"]:
        return "other_study"
    if _one_series(a, b) or _measured_otherwise(a, b) or _acquired_later(a, b):
        return "other_acquisition"
    return "same_acquisition" if _one_acquisition(a, b) else "one_patient"


def _from_dicom(row: CatalogRow) -> bool:
    return bool(row["source_format"] == "dicom")


def _one_series(a: CatalogRow, b: CatalogRow) -> bool:
    """Ingest divides a series only by what was measured: echoes, b-values, points in time."""
    return bool(a.get("series_key")) and a.get("series_key") == b.get("series_key")


def _measured_otherwise(a: CatalogRow, b: CatalogRow) -> bool:
    pairs = ((a.get(name), b.get(name)) for name in SETTINGS)
    return any(
        x is not None and y is not None and abs(x - y) > SAME_VALUE * max(abs(x), abs(y))
        for x, y in pairs
    )


def _acquired_later(a: CatalogRow, b: CatalogRow) -> bool:
    first, second = a.get("acquisition_s"), b.get("acquisition_s")
    return first is not None and second is not None and abs(first - second) > SAME_START_S


def _one_acquisition(a: CatalogRow, b: CatalogRow) -> bool:
    """Return whether frame, place and acquisition are stated, and equal.

    MR numbers its acquisitions anew in every series, so there the times must agree as well.
    """
    stated = [
        bool(a.get(name)) and a.get(name) == b.get(name)
        for name in ("study_key", "frame_key", "acquisition_key")
    ]
    timed = a.get("acquisition_s") is not None and b.get("acquisition_s") is not None
    both_ct = a["modality"] == b["modality"] == "CT"
    return all(stated) and (timed or both_ct) and overlap(a, b)


def overlap(a: CatalogRow, b: CatalogRow) -> bool:
    """Return whether the two fields of view have a part in common, as the headers place them."""
    (low_a, high_a), (low_b, high_b) = box_mm(a), box_mm(b)
    return bool((np.minimum(high_a, high_b) > np.maximum(low_a, low_b)).all())


def box_mm(row: CatalogRow) -> tuple[Corner, Corner]:
    """Return the lowest and highest corner of the box around a field of view, RAS in mm."""
    affine = np.asarray(row["affine_ras"], dtype=np.float64).reshape(4, 4)
    ends = [(-0.5, n - 0.5) for n in shape_of(row)]
    corners = np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1)
    xyz = affine[:3, :3] @ corners + affine[:3, 3:]
    return xyz.min(axis=1), xyz.max(axis=1)
