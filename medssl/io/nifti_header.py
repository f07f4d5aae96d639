"""The header of a NIfTI file: every number is checked before it is used."""

from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np

from medssl.io import geometry
from medssl.io.geometry import Float64Array
from medssl.io.limits import IrregularPolicy, Limits
from medssl.io.reasons import reject
from medssl.io.regularize import refuse_too_large

LONGEST_BYTES = 540
_HEADER_BYTES = {348: 348, 540: 540}
_LEAST_OFFSET = {348: 352, 540: 544}
_REAL, _COLOUR, _COMPLEX = "iuf", (128, 2304), (32, 1792, 2048)
_TO_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 1e-3}
"""NIfTI's spatial units (unknown, metre, millimetre, micron), by their code."""

SPACING_MM = (0.01, 50.0)
_WORST_CONDITION = 1e4
_FRAME_TOLERANCE_VOXELS = 0.01
_HIGHEST_OFFSET = 2**26


@dataclass(frozen=True, kw_only=True, eq=False)
class NiftiHeader:
    """What a header says, believed.

    Attributes:
        shape: of each volume.
        count: volumes.
        dtype: of the stored voxels.
        offset: where the voxels begin, in bytes.
        affine_ras: (4, 4), voxel index to millimetres; it may be sheared.
        slope: of stored value to intensity.
        intercept: likewise.
        flags: what was noticed.
    """

    shape: tuple[int, int, int]
    count: int
    dtype: np.dtype
    offset: int
    affine_ras: Float64Array
    slope: float
    intercept: float
    flags: tuple[str, ...]


def parse_header(head: bytes, limits: Limits, most: int | None = None) -> NiftiHeader:
    """Return what the first bytes of a file say.

    Args:
        head: the first ``LONGEST_BYTES`` bytes, or fewer where the file ends.
        limits: caps on what is allocated, and what is forgiven.
        most: volumes allowed; None for what the policy says.

    Raises:
        RejectedFileError: when it is damaged, or announces no volume with a place in space.
    """
    header = _unchecked(head)
    shape, count, dtype = _layout(header, limits)
    _refuse_time_series(count, limits.policy, most)
    refuse_too_large((*shape, count), dtype, limits)  # all of it: gzip packs zeros a thousandfold
    affine, flags = _affine(header, limits.policy)
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0 or not np.isfinite(intercept):
        slope, intercept = 1.0, 0.0  # nifti1.h: a slope of 0 means no scaling
    return NiftiHeader(
        shape=shape,
        count=count,
        dtype=dtype,
        offset=_offset(header),
        affine_ras=affine,
        slope=slope,
        intercept=intercept,
        flags=tuple(flags),
    )


def _unchecked(head: bytes) -> Any:
    """Return nibabel's view of the header, unchecked: nibabel's own checks mend and log."""
    sizes = {int.from_bytes(head[:4], order): order for order in ("little", "big")}
    size = next((s for s in sizes if s in _HEADER_BYTES), 0)
    if size == 0 or len(head) < size:
        raise reject("damaged_header")
    kind: Any = nibabel.Nifti1Header if size == 348 else nibabel.Nifti2Header  # noqa: PLR2004
    header = kind(head[:size], endianness="<" if sizes[size] == "little" else ">", check=False)
    magic = bytes(header["magic"])[:3]
    if magic in (b"ni1", b"ni2"):
        raise reject("nifti_pair_unsupported")
    if magic not in (b"n+1", b"n+2"):
        raise reject("damaged_header")
    return header


def _layout(header: Any, limits: Limits) -> tuple[tuple[int, int, int], int, np.dtype]:
    """Return shape, number of volumes and stored type; refuse what is no scan of one intensity."""
    axes, *dims = (int(d) for d in header["dim"])
    if not 1 <= axes <= len(dims) or min(dims[:axes]) <= 0:
        raise reject("bad_dimensions")
    dims = dims[:axes] + [1] * (len(dims) - axes)
    datatype = int(header["datatype"])
    if datatype in _COLOUR:
        raise reject("rgb")
    if datatype in _COMPLEX or max(dims[4:]) > 1:
        raise reject("complex_values")
    try:
        dtype = header.get_data_dtype()
    except (LookupError, nibabel.spatialimages.HeaderDataError):
        raise reject("unsupported_datatype", datatype=datatype) from None
    if dtype.kind not in _REAL or dtype.itemsize > 8:  # noqa: PLR2004
        raise reject("unsupported_datatype", datatype=datatype)
    shape = dims[0], dims[1], dims[2]
    if min(shape) < limits.least_slices:
        raise reject("too_few_slices", count=min(shape), least=limits.least_slices)
    return shape, dims[3], dtype


def _refuse_time_series(count: int, policy: IrregularPolicy, most: int | None) -> None:
    if most is None:
        most = policy.most_volumes if policy.time_series == "volumes" else 1
    if count > most:
        raise reject("time_series", count=count)


def _affine(header: Any, policy: IrregularPolicy) -> tuple[Float64Array, list[str]]:
    """Return the affine in millimetres: sform where set, else qform (nifti1.h, METHOD 3 and 2)."""
    scale = np.diag([_TO_MM.get(int(header["xyzt_units"]) % 8, 1.0)] * 3 + [1.0])
    sform = header.get_sform() if header["sform_code"] > 0 else None
    qform = _qform(header) if header["qform_code"] > 0 else None
    flags = []
    if sform is None and header["qform_code"] <= 0:
        if not policy.nifti_assume_ras:
            raise reject("no_orientation")
        flags.append("orientation_assumed")
        sform = np.diag([*header["pixdim"][1:4].astype(np.float64), 1.0])
    affine = np.asarray(scale @ (sform if sform is not None else qform), dtype=np.float64)
    _refuse_unusable(affine)
    if sform is not None and qform is not None and not _agree(affine, scale @ qform):
        if policy.frames_differ == "quarantine":
            raise reject("frames_differ")
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


def _agree(one: Float64Array, other: Float64Array) -> bool:
    apart = np.abs(one - other)[:3].max()
    return bool(apart <= _FRAME_TOLERANCE_VOXELS * min(geometry.spacing_mm(one)))


def _offset(header: Any) -> int:
    offset = int(header["vox_offset"])
    if not _LEAST_OFFSET[int(header["sizeof_hdr"])] <= offset <= _HIGHEST_OFFSET:
        raise reject("bad_offset")
    return offset
