"""NIfTI files to volumes and back: every number of the header is checked before it is used."""

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import nibabel
import numpy as np

from medssl.io import geometry
from medssl.io.geometry import Float64Array
from medssl.io.hounsfield import looks_like_hounsfield
from medssl.io.identify import GZIP_MAGIC
from medssl.io.limits import MIB, Limits
from medssl.io.narrow import VoxelArray, narrow
from medssl.io.reasons import reject
from medssl.io.untrusted import untrusted
from medssl.io.volume import Intensity, Volume
from medssl.runs.folder import atomic_path

Stream: TypeAlias = io.BufferedReader | gzip.GzipFile

_HEADER_BYTES = {348: 348, 540: 540}
_LEAST_OFFSET = {348: 352, 540: 544}
_REAL, _COLOUR, _COMPLEX = "iuf", (128, 2304), (32, 1792, 2048)
_TO_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 1e-3}
"""NIfTI's spatial units (unknown, metre, millimetre, micron), by their code."""

SPACING_MM = (0.01, 50.0)
_WORST_CONDITION = 1e4
_SHEAR_TOLERANCE_DEGREES = 0.05
_FRAME_TOLERANCE_VOXELS = 0.01
_MOST_NOT_FINITE = 0.01
_MOST_TRAILING_BYTES = 2**20
_HIGHEST_OFFSET = 2**26
_PIECE_BYTES = 2**22
_LARGEST_WHOLE_SHIFT = 2**31


@dataclass(frozen=True)
class NiftiVolume:
    """A volume read from a NIfTI file, on the file's own axes, and what was noticed."""

    volume: Volume
    flags: tuple[str, ...]


def read_nifti(path: Path, modality: str = "unknown", limits: Limits | None = None) -> Volume:
    """Return the volume in ``path``; see ``read_nifti_checked``."""
    return read_nifti_checked(path, modality, limits or Limits()).volume


def read_nifti_checked(path: Path, modality: str, limits: Limits) -> NiftiVolume:
    """Read ``path`` to its last byte, so that a wrong checksum shows.

    Args:
        path: .nii or .nii.gz, NIfTI-1 or NIfTI-2, either byte order.
        modality: "CT", "MR" or "unknown"; the format does not tell. A CT whose values cannot be
            Hounsfield units is flagged ``hu_implausible`` and its intensity is "arbitrary".
        limits: caps on what is allocated.

    Raises:
        RejectedFileError: when the file is damaged, or is no volume with a place in space.
    """
    with untrusted("damaged_header"), path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        stream: Stream = gzip.GzipFile(fileobj=file) if packed else file
        header = _read_header(stream)
        shape, dtype = _layout(header, limits)
        affine, flags = _affine(header)
        stored = _read_voxels(stream, header, shape, dtype)
    array, more = _intensities(stored, header)
    intensity, doubts = _meaning(array, modality)
    volume = Volume(array_IJK=array, affine_ras=affine, modality=modality, intensity=intensity)
    return NiftiVolume(volume, (*flags, *more, *doubts))


def write_nifti(
    array_IJK: VoxelArray | Volume, affine_ras: Float64Array | None, path: Path
) -> None:
    """Write voxels as .nii or .nii.gz, whole or not at all.

    The affine is stored as sform and as qform, both in scanner space and millimetres; all free
    text stays empty. The bytes depend on the content alone.

    Args:
        array_IJK: voxels (boolean and 64-bit ones are narrowed), or a Volume.
        affine_ras: (4, 4), voxel index to RAS+ mm; None for a Volume, which has its own.
        path: must end in .nii or .nii.gz.
    """
    if isinstance(array_IJK, Volume):
        array, affine_ras = array_IJK.array_IJK, array_IJK.affine_ras
    else:
        array = array_IJK.astype(np.uint8) if array_IJK.dtype == bool else narrow(array_IJK)
    if affine_ras is None:
        raise ValueError("an array needs its affine_ras")
    image = nibabel.Nifti1Image(array, affine_ras)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine_ras, code=1)
    image.set_qform(affine_ras, code=1, strip_shears=True)
    content = image.to_bytes()
    with atomic_path(Path(path)) as partial:
        packed = path.name.endswith(".gz")
        partial.write_bytes(gzip.compress(content, 1, mtime=0) if packed else content)


def _read_header(stream: Stream) -> Any:
    """Return nibabel's view of the header, unchecked: nibabel's own checks mend and log."""
    head = _read(stream, 540)
    sizes = {int.from_bytes(head[:4], order): order for order in ("little", "big")}
    size = next((s for s in sizes if s in _HEADER_BYTES), 0)
    if size == 0 or len(head) < size:
        raise reject("damaged_header")
    kind: Any = nibabel.Nifti1Header if size == 348 else nibabel.Nifti2Header  # noqa: PLR2004
    header = kind(
        bytes(head[:size]), endianness="<" if sizes[size] == "little" else ">", check=False
    )
    magic = bytes(header["magic"])[:3]
    if magic in (b"ni1", b"ni2"):
        raise reject("nifti_pair_unsupported")
    if magic not in (b"n+1", b"n+2"):
        raise reject("damaged_header")
    return header


def _layout(header: Any, limits: Limits) -> tuple[tuple[int, int, int], np.dtype]:
    """Return shape and stored type, having refused what is no scan of one intensity."""
    axes, *dims = (int(d) for d in header["dim"])
    if not 1 <= axes <= len(dims) or min(dims[:axes]) <= 0:
        raise reject("bad_dimensions")
    shape = [*dims[:axes]]
    while len(shape) > 3 and shape[-1] == 1:  # noqa: PLR2004
        shape.pop()
    datatype = int(header["datatype"])
    if datatype in _COLOUR:
        raise reject("rgb")
    if datatype in _COMPLEX or len(shape) > 4:  # noqa: PLR2004
        raise reject("complex_values")
    if len(shape) == 4:  # noqa: PLR2004
        raise reject("time_series", count=shape[3])
    try:
        dtype = header.get_data_dtype()
    except (LookupError, nibabel.spatialimages.HeaderDataError):
        raise reject("unsupported_datatype", datatype=datatype) from None
    if dtype.kind not in _REAL or dtype.itemsize > 8:  # noqa: PLR2004
        raise reject("unsupported_datatype", datatype=datatype)
    if len(shape) < 3 or min(shape) < limits.least_slices:  # noqa: PLR2004
        count = min(shape) if len(shape) == 3 else 1  # noqa: PLR2004
        raise reject("too_few_slices", count=count, least=limits.least_slices)
    announced = float(np.prod(shape, dtype=np.float64)) * dtype.itemsize
    if announced > limits.volume_bytes:
        raise reject(
            "too_large", announced_mib=announced / MIB, limit_mib=limits.volume_bytes / MIB
        )
    return (shape[0], shape[1], shape[2]), dtype


def _affine(header: Any) -> tuple[Float64Array, list[str]]:
    """Return the affine in millimetres: sform where set, else qform (nifti1.h, METHOD 3 and 2)."""
    scale = np.diag([_TO_MM.get(int(header["xyzt_units"]) % 8, 1.0)] * 3 + [1.0])
    sform = header.get_sform() if header["sform_code"] > 0 else None
    qform = _qform(header) if header["qform_code"] > 0 else None
    if sform is None and header["qform_code"] <= 0:
        raise reject("no_orientation")
    affine = np.asarray(scale @ (sform if sform is not None else qform), dtype=np.float64)
    _refuse_unusable(affine)
    flags = []
    if sform is not None and qform is not None and not _agree(affine, scale @ qform):
        flags.append("sform_qform_differ")
    return affine, flags


def _qform(header: Any) -> Float64Array | None:
    """Return the qform, or None where its quaternion or pixdim make no rotation or size."""
    if header["sform_code"] <= 0 and not (header["pixdim"][1:4] > 0).all():
        raise reject("bad_affine", low_mm=SPACING_MM[0], high_mm=SPACING_MM[1])
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (ValueError, nibabel.spatialimages.HeaderDataError):
        if header["sform_code"] > 0:
            return None
        raise reject("bad_affine", low_mm=SPACING_MM[0], high_mm=SPACING_MM[1]) from None


def _refuse_unusable(affine: Float64Array) -> None:
    finite = np.isfinite(affine).all()
    spacing = geometry.spacing_mm(affine) if finite else (0.0, 0.0, 0.0)
    sized = SPACING_MM[0] <= min(spacing) and max(spacing) <= SPACING_MM[1]
    if not sized or np.linalg.cond(affine[:3, :3]) > _WORST_CONDITION:
        raise reject("bad_affine", low_mm=SPACING_MM[0], high_mm=SPACING_MM[1])
    shear = geometry.shear_degrees(affine)
    if shear > _SHEAR_TOLERANCE_DEGREES:
        raise reject("sheared_affine", shear_degrees=shear)


def _agree(one: Float64Array, other: Float64Array) -> bool:
    apart = np.abs(one - other)[:3].max()
    return bool(apart <= _FRAME_TOLERANCE_VOXELS * min(geometry.spacing_mm(one)))


def _read_voxels(
    stream: Stream, header: Any, shape: tuple[int, int, int], dtype: np.dtype
) -> VoxelArray:
    """Read the voxels, then on to the end of the stream, which is where gzip keeps its checksum."""
    offset = int(header["vox_offset"])
    if not _LEAST_OFFSET[int(header["sizeof_hdr"])] <= offset <= _HIGHEST_OFFSET:
        raise reject("bad_offset")
    _skip(stream, offset - stream.tell())
    expected = int(np.prod(shape)) * dtype.itemsize
    content = _read(stream, expected)
    if len(content) < expected:
        raise reject("truncated_file", missing_bytes=expected - len(content))
    if len(_read(stream, _MOST_TRAILING_BYTES + 1, cut_allowed=False)) > _MOST_TRAILING_BYTES:
        raise reject("decompression_bomb")
    return np.frombuffer(content, dtype).reshape(shape, order="F")


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


def _intensities(stored: VoxelArray, header: Any) -> tuple[VoxelArray, list[str]]:
    """Apply scl_slope and scl_inter, once, and replace what is not a number."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0 or not np.isfinite(intercept):
        slope, intercept = 1.0, 0.0  # nifti1.h: a slope of 0 means no scaling
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
        return "arbitrary", ["modality_unknown"] if modality == "unknown" else []
    return ("hu", []) if looks_like_hounsfield(array) else ("arbitrary", ["hu_implausible"])
