"""Volumes whose every voxel is a known function of where it lies, as DICOM and as NIfTI."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from pydicom import Dataset, Sequence
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

SHAPE = (7, 6, 5)
"""Columns, rows, slices: all different, so that a mixed-up axis shows."""

CT_INTERCEPT = -1024
"""CT slices store HU + 1024, as scanners do."""

Edit = Callable[[Dataset, int], None]
Array: TypeAlias = NDArray[Any]


def affine_ras(
    degrees: ArrayLike = (0.0, 0.0, 0.0),
    spacing_mm: ArrayLike = (1.5, 2.0, 3.0),
    origin: ArrayLike = (-20.0, 31.0, -12.0),
) -> Array:
    """Return an LPS-like grid (as axial DICOM slices have), turned about x, y and z."""
    rotation = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        i, j = [n for n in range(3) if n != axis]
        turn[[i, i, j, j], [i, j, i, j]] = (
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        )
        rotation = turn @ rotation
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1.0, -1.0, 1.0]) @ rotation @ np.diag(spacing_mm)
    affine[:3, 3] = origin
    return affine


def points_mm(affine: Array, shape: tuple[int, ...]) -> Array:
    """Return the place of every voxel, (*shape, 3), in the affine's own frame."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return np.asarray(index @ affine[:3, :3].T + affine[:3, 3])


def exact_field_hu(points_ras: Array) -> Array:
    """F(x, y, z): a different slope along each axis, between air and bone."""
    return np.asarray(points_ras @ (7.0, -5.0, 3.0) + 300.0)


def field_hu(points_ras: Array) -> Array:
    """F, in whole Hounsfield units."""
    return np.rint(exact_field_hu(points_ras))


def phantom(affine: Array, shape: tuple[int, ...] = SHAPE, dtype: DTypeLike = np.int16) -> Array:
    """Return voxels with value F at their place."""
    return field_hu(points_mm(affine, shape)).astype(dtype)


def slice_dataset(
    index: int, position_lps: Array, affine: Array, stored_RC: Array, modality: str = "CT"
) -> Dataset:
    """Return one slice with plain, valid attributes."""
    steps_lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]
    spacing = np.linalg.norm(steps_lps, axis=0)
    cosines = [*(steps_lps[:, 0] / spacing[0]), *(steps_lps[:, 1] / spacing[1])]
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    ds.SOPInstanceUID = generate_uid()
    ds.Modality = modality
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientID, ds.PatientName = "P-1", "Phantom^Analytic"
    ds.InstanceNumber = index + 1
    ds.ImagePositionPatient = [format_number_as_ds(float(v)) for v in position_lps]
    ds.ImageOrientationPatient = [format_number_as_ds(float(v)) for v in cosines]
    ds.PixelSpacing = [format_number_as_ds(float(spacing[axis])) for axis in (1, 0)]
    ds.Rows, ds.Columns = stored_RC.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = int(stored_RC.dtype.kind == "i")
    if modality == "CT":
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, CT_INTERCEPT, "HU"
    ds.PixelData = np.ascontiguousarray(stored_RC).tobytes()
    return ds


def dicom_slices(
    array_IJK: Array, affine: Array, *, modality: str = "CT", edit: Edit | None = None
) -> list[Dataset]:
    """Return ``array_IJK``, in intensities, as the data sets of one series."""
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    stored_IJK = array_IJK - (CT_INTERCEPT if modality == "CT" else 0)
    slices = []
    for k in range(stored_IJK.shape[2]):
        position_ras = affine[:3, :3] @ (0, 0, k) + affine[:3, 3]
        ds = slice_dataset(k, position_ras * (-1, -1, 1), affine, stored_IJK[:, :, k].T, modality)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        if edit is not None:
            edit(ds, k)
        slices.append(ds)
    return slices


def enhanced(slices: list[Dataset], sop_class: str) -> Dataset:
    """Return the slices as one enhanced multi-frame data set, frames in reversed order."""
    frames = slices[::-1]
    ds = slices[0]
    ds.SOPClassUID, ds.NumberOfFrames = sop_class, len(frames)
    ds.PixelData = b"".join(frame.PixelData for frame in frames)

    def macro(**values: object) -> Sequence:
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        return Sequence([item])

    shared = Dataset()
    shared.PlaneOrientationSequence = macro(ImageOrientationPatient=ds.ImageOrientationPatient)
    shared.PixelMeasuresSequence = macro(PixelSpacing=ds.PixelSpacing)
    own = []
    for frame in frames:
        groups = Dataset()
        groups.PlanePositionSequence = macro(ImagePositionPatient=frame.ImagePositionPatient)
        if "RescaleSlope" in frame:
            groups.PixelValueTransformationSequence = macro(
                RescaleSlope=frame.RescaleSlope,
                RescaleIntercept=frame.RescaleIntercept,
                RescaleType="HU",
            )
        own.append(groups)
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"):
        del ds[keyword]
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        if keyword in ds:
            del ds[keyword]
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence(own)
    return ds


def save(slices: list[Dataset], folder: Path, *, seed: int = 0, **options: Any) -> list[Path]:
    """Write data sets under names and in an order that tell nothing; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    names = rng.integers(2**63, size=len(slices))
    paths = []
    for name, number in zip(names, rng.permutation(len(slices)), strict=True):
        ds = slices[number]
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        path = folder / f"{name:016X}"
        ds.save_as(path, **({"enforce_file_format": True} | options))
        paths.append(path)
    return paths


def write_dicom(
    folder: Path,
    array_IJK: Array,
    affine: Array,
    *,
    modality: str = "CT",
    edit: Edit | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write ``array_IJK``, in intensities, as one DICOM series; return the paths."""
    return save(dicom_slices(array_IJK, affine, modality=modality, edit=edit), folder, seed=seed)


def write_nifti(path: Path, array_IJK: Array, affine: Array) -> Path:
    """Write an array as NIfTI with sform and qform."""
    image = nib.Nifti1Image(array_IJK, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def nifti_bytes(
    array_IJK: Array | None = None, affine: Array | None = None, **header: object
) -> bytes:
    """Return an uncompressed NIfTI, with header fields set after everything else."""
    affine = affine_ras() if affine is None else affine
    voxels = phantom(affine) if array_IJK is None else array_IJK
    image = nib.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    content = bytearray(image.to_bytes())
    head = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in header.items():
        head[name] = value
    content[:348] = head.binaryblock
    return bytes(content)


def value_error(array_IJK: Array, affine: Array) -> float:
    """Return the largest difference between the voxels and F at their place."""
    return float(np.abs(array_IJK - field_hu(points_mm(affine, array_IJK.shape))).max())
