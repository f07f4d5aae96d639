"""NIfTI files to volumes and back."""

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import nibabel
import numpy as np

from medssl.io import geometry
from medssl.io.geometry import Float64Array
from medssl.io.hounsfield import looks_like_hounsfield
from medssl.io.identify import GZIP_MAGIC
from medssl.io.limits import IrregularPolicy, Limits
from medssl.io.narrow import VoxelArray, narrow
from medssl.io.nifti_header import LONGEST_BYTES, NiftiHeader, parse_header
from medssl.io.reasons import reject
from medssl.io.regularize import (
    outside_value,
    plan_rectangle,
    refuse_too_large,
    resample_affine,
)
from medssl.io.untrusted import untrusted
from medssl.io.volume import Intensity, Volume
from medssl.runs.folder import atomic_path

Stream: TypeAlias = io.BufferedReader | gzip.GzipFile

_SCANNER, _ALIGNED = 1, 2
"""NIfTI's codes for where an affine leads."""

_SHEAR_TOLERANCE_DEGREES = 0.05
_MOST_NOT_FINITE = 0.01
_MOST_TRAILING_BYTES = 2**20
_PIECE_BYTES = 2**22
_LARGEST_WHOLE_SHIFT = 2**31


@dataclass(frozen=True)
class NiftiVolume:
    """A volume read from a NIfTI file, on the file's own axes, and what was noticed."""

    volume: Volume
    flags: tuple[str, ...]
    split_by: tuple[str, ...] = ()
    """Which of several volumes of the file it is."""


def read_nifti(path: Path, modality: str = "unknown", limits: Limits | None = None) -> Volume:
    """Return the only volume in ``path``, on the file's own grid; see ``read_nifti_checked``.

    Without ``limits`` sheared axes are refused: labels must not be interpolated, and what is
    found in an image must fit it voxel by voxel.
    """
    own_grid = Limits(policy=IrregularPolicy(shear="quarantine"))
    return read_nifti_checked(path, modality, limits or own_grid).volume


def read_nifti_checked(path: Path, modality: str, limits: Limits) -> NiftiVolume:
    """Return the only volume in ``path``; see ``read_nifti_volumes``.

    Raises:
        RejectedFileError: also ``time_series``, where there are several.
    """
    first, *others = read_nifti_volumes(path, modality, limits, most=1)
    if others:
        raise ValueError("most=1 gives one volume")
    return first


def read_nifti_volumes(
    path: Path, modality: str, limits: Limits, most: int | None = None
) -> Iterator[NiftiVolume]:
    """Yield the volumes in ``path``, one per time point, and read it to its last byte.

    One is read after the other, so that memory holds one. A wrong checksum shows only after the
    last: what was yielded before an error must be thrown away.

    Args:
        path: .nii or .nii.gz, NIfTI-1 or NIfTI-2, either byte order.
        modality: "CT", "MR", "PT" or "unknown"; the format does not tell. A CT whose values
            cannot be Hounsfield units is flagged ``hu_implausible`` and its intensity is
            "arbitrary".
        limits: caps on what is allocated, and the policy for sheared axes and time series.
        most: volumes allowed; None for what the policy says.

    Raises:
        RejectedFileError: when the file is damaged, or is no volume with a place in space.
    """
    with untrusted("damaged_header"):
        file = path.open("rb")
    with file:
        with untrusted("damaged_header"):
            stream = _unpacked(file)
            header = parse_header(bytes(_read(stream, LONGEST_BYTES)), limits, most)
            _skip(stream, header.offset - stream.tell())
        for number in range(1, header.count + 1):
            with untrusted("damaged_header"):
                stored = _read_voxels(stream, header)
                if number == header.count:
                    _read_to_end(stream)
            found = _placed(stored, header, modality, limits)
            several = header.count > 1
            yield replace(found, split_by=(f"time_point={number}",)) if several else found


def write_nifti(
    array_IJK: VoxelArray | Volume, affine_ras: Float64Array | None, path: Path
) -> None:
    """Write voxels as .nii or .nii.gz, whole or not at all.

    The affine is stored as sform and as qform, in millimetres of scanner space (code 1), or, for a
    volume that was resampled, aligned to it (code 2); all free text stays empty. The bytes depend
    on the content alone.

    Args:
        array_IJK: voxels (boolean and 64-bit ones are narrowed), or a Volume.
        affine_ras: (4, 4), voxel index to RAS+ mm; None for a Volume, which has its own.
        path: must end in .nii or .nii.gz.
    """
    code = _SCANNER
    if isinstance(array_IJK, Volume):
        array, affine_ras = array_IJK.array_IJK, array_IJK.affine_ras
        code = _ALIGNED if array_IJK.regularized else _SCANNER
    else:
        array = array_IJK.astype(np.uint8) if array_IJK.dtype == bool else narrow(array_IJK)
    if affine_ras is None:
        raise ValueError("an array needs its affine_ras")
    image = nibabel.Nifti1Image(array, affine_ras)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine_ras, code=code)
    image.set_qform(affine_ras, code=code, strip_shears=True)
    content = image.to_bytes()
    with atomic_path(Path(path)) as partial:
        packed = path.name.endswith(".gz")
        partial.write_bytes(gzip.compress(content, 1, mtime=0) if packed else content)


def _unpacked(file: io.BufferedReader) -> Stream:
    packed = file.read(2) == GZIP_MAGIC
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if packed else file


def _placed(stored: VoxelArray, header: NiftiHeader, modality: str, limits: Limits) -> NiftiVolume:
    """Return the volume, on a rectangular grid where its own is sheared."""
    array, more = _intensities(stored, header)
    intensity, doubts = _meaning(array, modality)
    flags, affine = (*header.flags, *more, *doubts), header.affine_ras
    regularized: tuple[str, ...] = ()
    shear = geometry.shear_degrees(affine)
    if shear > _SHEAR_TOLERANCE_DEGREES:
        if limits.policy.shear == "quarantine":
            raise reject("sheared_affine", shear_degrees=shear)
        plan = plan_rectangle(affine, header.shape)
        refuse_too_large(plan.shape, array.dtype, limits)
        array = resample_affine(array, plan, outside_value(array, intensity))
        affine, regularized, flags = plan.affine_ras, ("shear",), (*flags, "shear_resampled")
    volume = Volume(
        array_IJK=array,
        affine_ras=affine,
        modality=modality,
        intensity=intensity,
        regularized=regularized,
    )
    return NiftiVolume(volume, flags)


def _read_voxels(stream: Stream, header: NiftiHeader) -> VoxelArray:
    expected = math.prod(header.shape) * header.dtype.itemsize
    content = _read(stream, expected)
    if len(content) < expected:
        raise reject("truncated_file", missing_bytes=expected - len(content))
    return np.frombuffer(content, header.dtype).reshape(header.shape, order="F")


def _read_to_end(stream: Stream) -> None:
    """Read on to the end of the stream, which is where gzip keeps its checksum."""
    if len(_read(stream, _MOST_TRAILING_BYTES + 1, cut_allowed=False)) > _MOST_TRAILING_BYTES:
        raise reject("decompression_bomb")


def _skip(stream: Stream, count: int) -> None:
    """Move on by ``count`` bytes, back over what was read past a NIfTI-1 header included."""
    if count < 0:
        stream.seek(count, io.SEEK_CUR)
    elif len(_read(stream, count)) < count:
        raise reject("bad_offset")


def _read(stream: Stream, count: int, *, cut_allowed: bool = True) -> bytearray:
    """Return up to ``count`` bytes: fewer where the file or its gzip stream ends."""
    content = bytearray()
    try:  # read1, since read would drop what came before the cut
        while len(content) < count:
            piece = stream.read1(min(_PIECE_BYTES, count - len(content)))
            if not piece:
                break
            content += piece
    except (zlib.error, gzip.BadGzipFile):
        raise reject("damaged_compression") from None
    except EOFError:
        if not cut_allowed:
            raise reject("damaged_compression") from None
    return content


def _intensities(stored: VoxelArray, header: NiftiHeader) -> tuple[VoxelArray, list[str]]:
    """Apply scl_slope and scl_inter, once, and replace what is not a number."""
    slope, intercept = header.slope, header.intercept
    whole = intercept.is_integer() and abs(intercept) < _LARGEST_WHOLE_SHIFT
    if slope == 1 and whole and stored.dtype.kind in "iu":
        shifted = stored if intercept == 0 else stored.astype(np.int64) + int(intercept)
        return narrow(shifted), []
    if (slope, intercept) == (1, 0):
        return _finite(narrow(stored))
    with np.errstate(over="ignore"):  # an overflow becomes infinity, which is looked for
        return _finite(narrow(stored.astype(np.float64) * slope + intercept))


def _finite(array: VoxelArray) -> tuple[VoxelArray, list[str]]:
    finite = np.isfinite(array)
    bad = 1 - float(finite.mean())
    if bad == 0:
        return array, []
    if bad > _MOST_NOT_FINITE:
        raise reject("not_finite", percent=100 * bad)
    return np.where(finite, array, array[finite].min()), ["not_finite_replaced"]


def _meaning(array: VoxelArray, modality: str) -> tuple[Intensity, list[str]]:
    if modality != "CT":
        return ("unknown", ["modality_unknown"]) if modality == "unknown" else ("arbitrary", [])
    return ("hu", []) if looks_like_hounsfield(array) else ("unknown", ["hu_implausible"])
