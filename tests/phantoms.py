"""The phantoms that tests and the benchmark of edge cases share."""

from pipelines.benchmarks.cases.phantoms import (
    CT_INTERCEPT,
    SHAPE,
    Edit,
    affine_ras,
    dicom_slices,
    enhanced,
    exact_field_hu,
    field_hu,
    nifti_bytes,
    phantom,
    points_mm,
    save,
    slice_dataset,
    value_error,
    write_dicom,
    write_nifti,
)

__all__ = [
    "CT_INTERCEPT",
    "SHAPE",
    "Edit",
    "affine_ras",
    "dicom_slices",
    "enhanced",
    "exact_field_hu",
    "field_hu",
    "nifti_bytes",
    "phantom",
    "points_mm",
    "save",
    "slice_dataset",
    "value_error",
    "write_dicom",
    "write_nifti",
]
