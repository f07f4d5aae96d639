"""The files of a labelled case as volumes: NIfTI, pictures, DICOM series, a library's volumes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medssl.errors import InputError, RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.read import DicomVolume, read_series
from medssl.io.dicom.series import group_by_series
from medssl.io.dicom.slices import SliceHeader
from medssl.io.geometry import axis_codes, reorient
from medssl.io.limits import Limits
from medssl.io.narrow import VoxelArray
from medssl.io.nifti import read_nifti
from medssl.io.pictures import DEEP, PICTURES, open_picture, read_grey
from medssl.io.untrusted import silenced
from medssl.io.volume import Volume
from medssl.library.volumes import SUFFIX as LIBRARY_SUFFIX
from medssl.library.volumes import read_volume
from medssl.runs.workers import available_cores

NIFTI = (".nii", ".nii.gz")
DICOM_LIMITS = Limits(least_slices=1)


def read_image_file(path: Path, modality: str, files: Sequence[Path] = ()) -> Volume:
    """Return what an image's file, folder or DICOM files hold, on its own grid.

    A PNG or JPEG becomes one slice of 1 mm, its first axis to the right of the picture and its
    second downwards, which are taken for the patient's left and back. Colours become luminance
    (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B), and transparency is dropped.

    Args:
        path: a NIfTI file, a picture, a library's volume file, or the folder of a DICOM series.
        modality: of what does not say it itself: NIfTI files and pictures.
        files: the files of the DICOM series, where they are known.

    Raises:
        RejectedFileError: It is damaged, of another kind, or holds more than one volume.
    """
    if files or path.is_dir():
        return _read_dicom(files or sorted(p for p in path.rglob("*") if p.is_file()))
    if path.name.endswith(LIBRARY_SUFFIX):
        return _read_stored(path)
    if path.suffix.lower() in PICTURES:
        return _one_slice(read_grey(path), modality)
    return _read_nifti(path, modality)


def read_label_file(path: Path, image: Volume | None = None) -> Volume:
    """Return a label map with its axes along those of ``image``; nothing is resampled.

    Of a picture with a palette the indices count, not the colours.

    Raises:
        RejectedFileError: It is damaged, of another kind, or a picture in colours.
    """
    if path.suffix.lower() in PICTURES:
        with open_picture(path) as picture:
            if picture.mode not in ("1", "L", "P", *DEEP):
                raise RejectedFileError(
                    "coloured_label", "a label map must be a grey picture, or one with a palette"
                )
            found = _one_slice(np.asarray(picture), "unknown")
    else:
        found = _read_nifti(path, "unknown")
    if image is None:
        return found
    array, affine = reorient(found.array_IJK, found.affine_ras, axis_codes(image.affine_ras))
    return Volume(array_IJK=array, affine_ras=affine, modality="unknown", intensity="unknown")


def dicom_headers(
    files: Sequence[Path], pseudonymizer: Pseudonymizer
) -> tuple[list[SliceHeader], list[tuple[Path, RejectedFileError]]]:
    """Return the slices in ``files``, and the files of scans whose headers cannot be read.

    What is no scan is passed over. Damage to pixels is kept in the headers of slices, and fails
    when they are read.
    """
    headers: list[SliceHeader] = []
    refused: list[tuple[Path, RejectedFileError]] = []
    with silenced():
        for number, path in enumerate(files):
            try:
                headers += read_headers(path, str(number), pseudonymizer, DICOM_LIMITS)
            except RejectedFileError as error:
                if not error.skipped:
                    refused.append((path, error))
    return headers, refused


def read_one_series(headers: Sequence[SliceHeader]) -> DicomVolume:
    """Return the only volume that the slices of one series make.

    Raises:
        RejectedFileError: They make none, or several.
    """
    with silenced():
        outcomes = list(read_series(headers, DICOM_LIMITS, available_cores()))
    volumes = [found for found in outcomes if isinstance(found, DicomVolume)]
    if len(volumes) > 1:
        told = "; ".join(", ".join(found.split_by) for found in volumes)
        raise RejectedFileError(
            "several_volumes", f"its series makes {len(volumes)} volumes, not one: {told}"
        )
    if not volumes or len(outcomes) > 1:
        refused = [found.error for found in outcomes if not isinstance(found, DicomVolume)]
        if not volumes or any(not error.skipped for error in refused):
            raise refused[0]
    return volumes[0]


def _read_dicom(files: Sequence[Path]) -> Volume:
    headers, refused = dicom_headers(files, Pseudonymizer.ephemeral())
    if refused:
        raise refused[0][1]
    series = list(group_by_series(headers).values())
    if len(series) != 1:
        raise RejectedFileError(
            "several_series", f"the folder must hold one DICOM series, it holds {len(series)}"
        )
    return read_one_series(series[0]).volume


def _read_stored(path: Path) -> Volume:
    try:
        return read_volume(path.parents[1], path.name.removesuffix(LIBRARY_SUFFIX))
    except InputError as error:
        raise RejectedFileError("damaged_volume", error.problem) from None


def _read_nifti(path: Path, modality: str) -> Volume:
    if not path.name.lower().endswith(NIFTI):
        raise RejectedFileError(
            "unknown_format",
            f"only {', '.join((*NIFTI, *PICTURES))} and folders of DICOM files are read here",
        )
    return read_nifti(path, modality=modality)


def _one_slice(pixels: VoxelArray, modality: str) -> Volume:
    if pixels.dtype == np.int32:  # Pillow's mode I: 16 bits in 32
        pixels = pixels.astype(np.uint16)
    lying = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("=")).T)[:, :, None]
    return Volume(
        array_IJK=lying.astype(np.uint8) if lying.dtype == np.bool_ else lying,
        affine_ras=np.diag([-1.0, -1.0, 1.0, 1.0]),
        modality=modality,
    )
