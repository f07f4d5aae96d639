"""The NIfTI part of the shipped data: which volumes, and how each one is made small."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]
Reader = Callable[[Path], tuple[Floats, Floats]]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
FWHM_PER_SIGMA = 2.354820045
AIR_HU = -1024.0


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One shipped volume: where it comes from and what is done to it."""

    name: str
    source: str
    what: str
    spacing_mm: tuple[float, float, float] | None = None  # None: the voxel grid stays as it is
    levels: int | None = None  # MR only: scaled so that the 99.9th percentile becomes this
    original: bool = False  # copied byte for byte
    read: Reader | None = None
    notes: str = ""


def read_image(path: Path) -> tuple[Floats, Floats]:
    """Read any file nibabel knows; returns the scaled array and its RAS affine."""
    image = nib.load(path)
    return np.asarray(image.get_fdata(dtype=np.float64)), np.asarray(image.affine, np.float64)


def read_template(path: Path) -> tuple[Floats, Floats]:
    """Read the older-adult CT template and turn its "Cormack" units back into HU.

    The template stretches soft tissue and bone (`clinical_h2c.m` of its repository):
    C = h + e + 9 * min(e, 200) with h = HU + 1000 and e = max(h - 900, 0); this is its inverse.
    """
    cormack, affine = read_image(path)
    hu = np.interp(cormack, [0.0, 900.0, 3100.0, 6100.0], [-1000.0, -100.0, 100.0, 1600.0])
    return hu, affine


def read_slices(folder: Path) -> tuple[Floats, Floats]:
    """Stack one classic series with equal slice distances: axes (column, row, slice).

    Of repeated positions (echoes, time points) the one with the lowest instance number stays.
    """
    first_at: dict[tuple[float, ...], pydicom.Dataset] = {}
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    for ds in sorted(slices, key=lambda ds: (float(ds.EchoTime), int(ds.InstanceNumber))):
        first_at.setdefault(tuple(float(v) for v in ds.ImagePositionPatient), ds)
    row_dir, column_dir, normal = _directions(slices[0])
    ordered = sorted(first_at.values(), key=lambda ds: float(_position(ds) @ normal))
    affine_lps = np.eye(4)
    row_mm, column_mm = (float(v) for v in ordered[0].PixelSpacing)
    affine_lps[:3, 0] = row_dir * column_mm
    affine_lps[:3, 1] = column_dir * row_mm
    affine_lps[:3, 2] = (_position(ordered[-1]) - _position(ordered[0])) / (len(ordered) - 1)
    affine_lps[:3, 3] = _position(ordered[0])
    array = np.stack([ds.pixel_array.T for ds in ordered], axis=-1).astype(np.float64)
    return array, LPS_TO_RAS @ affine_lps


def read_tilted_head(folder: Path) -> tuple[Floats, Floats]:
    """Resample a head CT with gantry tilt and unequal slice distances to a regular grid.

    Every slice starts at the same x and y and only its z differs, so at a fixed (x, y) the
    slices lie along z: a world point's column and row follow from x and y alone, and its
    place between two slices from z. The new grid is aligned with the tilted slices.
    """
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    row_dir, column_dir, normal = _directions(slices[0])
    pixel_mm = float(slices[0].PixelSpacing[0])
    stack = np.stack([ds.pixel_array.T for ds in slices], axis=-1).astype(np.float64)
    stack = np.maximum(stack, AIR_HU)
    spacing_mm = np.array([2.0, 2.0, 4.5])
    sigma = np.sqrt(spacing_mm[0] ** 2 - pixel_mm**2) / FWHM_PER_SIGMA / pixel_mm
    stack = ndimage.gaussian_filter(stack, (sigma, sigma, 0.0))

    starts = np.stack([_position(ds) for ds in slices])
    shape = (125, 125, int((starts[-1] - starts[0]) @ normal / spacing_mm[2]) + 1)
    affine_lps = np.eye(4)
    affine_lps[:3, :3] = np.stack([row_dir, column_dir, normal], axis=1) * spacing_mm
    middle = starts.mean(axis=0)
    affine_lps[:3, 3] = middle + normal * float((starts[0] - middle) @ normal)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    x, y, z = np.tensordot(affine_lps[:3, :3], grid, axes=1) + affine_lps[:3, 3, None, None, None]
    row_mm = (y - starts[0, 1]) / column_dir[1]
    start_z = z - row_mm * column_dir[2]
    place = np.interp(start_z, starts[:, 2], np.arange(len(slices)), left=-9.0, right=-9.0)
    coordinates = [(x - starts[0, 0]) / pixel_mm, row_mm / pixel_mm, place]
    array = ndimage.map_coordinates(stack, coordinates, order=1, cval=AIR_HU)
    return array, LPS_TO_RAS @ affine_lps


def resample(
    array: Floats, affine: Floats, spacing_mm: tuple[float, float, float]
) -> tuple[Floats, Floats]:
    """Resample to about `spacing_mm` per axis (Gaussian against aliasing, then linear).

    An axis that is already as coarse as asked stays as it is. The field of view keeps its
    centre, and the returned affine belongs exactly to the returned voxels.
    """
    old_mm = np.linalg.norm(affine[:3, :3], axis=0)
    asked_mm = np.asarray(spacing_mm)
    new_mm = np.where(asked_mm > 1.02 * old_mm, asked_mm, old_mm)
    step = new_mm / old_mm
    shape = np.maximum(1, np.floor((np.array(array.shape) - 1) / step + 1e-9).astype(int) + 1)
    start = ((np.array(array.shape) - 1) - (shape - 1) * step) / 2
    sigma = np.sqrt(new_mm**2 - old_mm**2) / FWHM_PER_SIGMA / old_mm
    smooth = ndimage.gaussian_filter(array, sigma, mode="nearest")
    new = ndimage.affine_transform(
        smooth, step, offset=start, output_shape=tuple(shape), order=1, mode="nearest"
    )
    to_old = np.eye(4)
    to_old[:3, :3] = np.diag(step)
    to_old[:3, 3] = start
    return new, affine @ to_old


def encode(array: Floats, levels: int | None) -> NDArray[np.int16] | NDArray[np.uint8]:
    """Round to integers; with `levels`, scale first so that the 99.9th percentile becomes it."""
    if levels is None:
        return np.rint(array).astype(np.int16)
    scaled = np.clip(array, 0.0, None) * (levels / np.percentile(array, 99.9))
    if levels <= 255:
        return np.rint(np.minimum(scaled, 255.0)).astype(np.uint8)
    return np.rint(scaled).astype(np.int16)


def nifti_bytes(array: NDArray[np.int16] | NDArray[np.uint8], affine: Floats) -> bytes:
    """The bytes of a .nii.gz that do not change from run to run."""
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=9, mtime=0)


def build_volume(volume: Volume, source: Path, out: Path) -> None:
    """Write one volume below `out`."""
    target = out / "nifti" / f"{volume.name}.nii.gz"
    target.parent.mkdir(parents=True, exist_ok=True)
    if volume.original:
        target.write_bytes((source / volume.source).read_bytes())
        return
    array, affine = (volume.read or read_image)(source / volume.source)
    if volume.spacing_mm is not None:
        array, affine = resample(array, affine, volume.spacing_mm)
    target.write_bytes(nifti_bytes(encode(array, volume.levels), affine))


def _position(ds: pydicom.Dataset) -> Floats:
    return np.array([float(v) for v in ds.ImagePositionPatient])


def _directions(ds: pydicom.Dataset) -> tuple[Floats, Floats, Floats]:
    values = np.array([float(v) for v in ds.ImageOrientationPatient])
    row_dir, column_dir = values[:3], values[3:]
    return row_dir, column_dir, np.cross(row_dir, column_dir)


VOLUMES = (
    Volume(
        name="ct/tsct_p01_body",
        source="volumes/ct/ts_body_ct_3mm.nii.gz",
        what="CT, thorax to pelvis",
        spacing_mm=(3.0, 3.0, 5.0),
    ),
    Volume(
        name="ct/tsct_p01_slab",
        source="volumes/ct/ts_body_ct_sm_3mm.nii.gz",
        what="CT, trunk slab: the top of tsct_p01_body with a shifted origin",
        original=True,
    ),
    Volume(
        name="ct/cmbcrc_p01_chest",
        source="volumes/derived/cmbcrc_chest_ct_2p5mm.nii.gz",
        what="CT, chest, lung kernel",
        spacing_mm=(3.5, 3.5, 5.0),
    ),
    Volume(
        name="ct/kits_p72_chest",
        source="volumes/derived/kits00072_ct_slab_1p5mm.nii.gz",
        what="CT, arterial, lower chest and liver dome, 45 mm slab",
        spacing_mm=(3.0, 3.0, 3.0),
    ),
    Volume(
        name="ct/spleen_p02_abdomen",
        source="volumes/ct/msd_spleen2_crop.nii.gz",
        what="CT, abdomen, crop",
        spacing_mm=(2.0, 2.0, 5.0),
    ),
    Volume(
        name="ct/gehead_p01_head",
        source="dicom-series/ge_head_ct_tilt",
        what="CT, head, gantry tilt",
        read=read_tilted_head,
        notes="28 DICOM slices with unequal distances resampled to one grid of 2 x 2 x 4.5 mm "
        "along the tilted slices; below -1024 HU set to -1024",
    ),
    Volume(
        name="ct/scct_p00_head",
        source="volumes/ct/template_scct_head_2mm.nii",
        what="CT, head, average template of older adults (not one person)",
        spacing_mm=(2.5, 2.5, 2.5),
        read=read_template,
        notes='"Cormack" units turned back into HU, int16, compressed',
    ),
    Volume(
        name="mr/tsmr_p01_trunk",
        source="volumes/mr/ts_body_mr_sm_3mm.nii.gz",
        what="MR, trunk slab",
        original=True,
    ),
    *(
        Volume(
            name=f"mr/ms_{patient}_{kind}",
            source=f"volumes/mr/ms_{patient}_{study}_{kind}.nii.gz",
            what=f"MR {kind}, head, multiple sclerosis",
            spacing_mm=(2.0, 2.0, 3.0),
        )
        for patient, study, kind in (
            ("p01", "s1", "FLAIR"),
            ("p01", "s2", "T1W"),
            ("p03", "s2", "FLAIR"),
            ("p04", "s1", "T1W"),
            ("p12", "s1", "T1W"),
        )
    ),
    *(
        Volume(
            name=f"mr/btp_p01_{kind}",
            source=f"volumes/derived/btp_study1_{source}_1p2mm.nii.gz",
            what=f"MR {kind}, head, glioblastoma",
            spacing_mm=(2.5, 2.5, 6.5),
        )
        for kind, source in (("t1post", "t1post"), ("flair", "flair_reg"), ("t2", "t2_reg"))
    ),
    Volume(
        name="mr/niivue_p01_b0",
        source="volumes/mr/niivue_dwi_b0_brain.nii.gz",
        what="MR EPI (b0), brain",
        spacing_mm=(2.5, 2.5, 2.5),
        levels=1000,
    ),
    Volume(
        name="mr/niivue_p02_T1W",
        source="volumes/mr/niivue_norm_t1_brain.mgz",
        what="MR T1, brain without skull, axes left-inferior-anterior",
        spacing_mm=(2.0, 2.0, 2.0),
        levels=255,
        notes="from FreeSurfer .mgz",
    ),
    Volume(
        name="mr/seg3d_p01_T1W",
        source="volumes/mr/seg3d_MR_head.nii.gz",
        what="MR T1, head",
        spacing_mm=(2.0, 2.0, 2.0),
        levels=255,
    ),
    Volume(
        name="mr/mni_p00_T1W",
        source="volumes/mr/nilearn_mni152_t1.nii.gz",
        what="MR T1, brain, average template (not one person)",
        spacing_mm=(2.0, 2.0, 2.0),
        levels=255,
    ),
    Volume(
        name="mr/pycortex_p01_EPI",
        source="volumes/mr/pycortex_s1_epi.nii.gz",
        what="MR EPI, head",
        levels=1000,
    ),
    Volume(
        name="mr/decubitus_p01_T1W",
        source="dicom-cases/decubitus-right/2_t1_fl2d_sag",
        what="MR T1, head, sagittal, patient lying on the right side",
        spacing_mm=(2.0, 2.0, 4.8),
        read=read_slices,
        notes="35 DICOM slices stacked",
    ),
    Volume(
        name="mr/multiecho_p01_GRE",
        source="dicom-cases/multi-echo/2_me_FieldMap_GRE",
        what="MR gradient echo, head, oblique",
        read=read_slices,
        notes="36 DICOM slices of the first echo stacked",
    ),
    Volume(
        name="mr/geepi_p01_EPI",
        source="dicom-cases/ge-siemens-mr/20180918GE/mr_0004",
        what="MR EPI, head",
        read=read_slices,
        notes="the first of ten time points, 15 DICOM slices stacked",
    ),
)
