"""The table of NIfTI files."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from pipelines.benchmarks.cases.alter import Build, later
from pipelines.benchmarks.cases.case import (
    RESAMPLED,
    SHAPE,
    Case,
    Expect,
    Expected,
    converts,
    refuses,
    skips,
)
from pipelines.benchmarks.cases.phantoms import (
    Array,
    affine_ras,
    exact_field_hu,
    nifti_bytes,
    phantom,
)

RAS = affine_ras((12, -8, 20))
_HEAD_BYTES = 352


def raw(content: bytes | Callable[[], bytes], name: str = "v.nii") -> Build:
    """Return a builder of one file."""

    def build(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content())

    return build


def nifti(array_IJK: Array | None = None, affine: Array = RAS, **header: object) -> Build:
    """Return a builder of one NIfTI file."""
    voxels = phantom(RAS, SHAPE) if array_IJK is None else array_IJK
    return raw(lambda: nifti_bytes(voxels, affine, **header))


def _plain() -> bytes:
    return nifti_bytes(phantom(RAS, SHAPE), RAS)


def _second_version() -> bytes:
    image = nib.Nifti2Image(phantom(RAS, SHAPE), RAS)
    return bytes(image.to_bytes())


def _big_endian() -> bytes:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    image = nib.Nifti1Image(phantom(RAS, SHAPE), RAS, header)
    return bytes(image.to_bytes())


def _bad_checksum() -> bytes:
    packed = bytearray(gzip.compress(_plain()))
    packed[-6] ^= 0xFF
    return bytes(packed)


def _zeros_packed() -> bytes:
    """Announces 9 GiB, and would unpack to it."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header["dim"] = [3, 2048, 2048, 1100, 1, 1, 1, 1]
    header["pixdim"][1:4], header["vox_offset"], header["magic"] = 1, _HEAD_BYTES, b"n+1"
    header.set_sform(np.eye(4), 1)
    return gzip.compress(header.binaryblock + bytes(2**22))


def _micron() -> bytes:
    affine = RAS.copy()
    affine[:3] *= 1000
    return nifti_bytes(phantom(RAS, SHAPE), affine, xyzt_units=3)


def _not_numbers(share: float) -> Array:
    array = phantom(RAS, SHAPE, np.float32)
    array.reshape(-1)[: int(share * array.size)] = np.nan
    return array


def _lowest_in_first_row(points_ras: Array) -> Array:
    """F where what is not a number became the lowest value."""
    index = (points_ras - RAS[:3, 3]) @ np.linalg.inv(RAS[:3, :3]).T
    gone = (np.rint(index[..., 0]) == 0) & (np.rint(index[..., 1]) == 0)
    lowest = float(np.nanmin(_not_numbers(0.004)))
    gone &= np.rint(index[..., 2]) < int(0.004 * np.prod(SHAPE))
    return np.where(gone, lowest, exact_field_hu(points_ras))


def _sheared() -> Array:
    affine = RAS.copy()
    affine[:3, 2] += RAS[:3, 0] * 0.4
    return affine


def _one(**options: object) -> Expected:
    return Expected(RAS, intensity="", **options)  # type: ignore[arg-type]


_SHEARED = _sheared()
_RGB = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
_FRAMES = np.stack([phantom(RAS, SHAPE), phantom(RAS, SHAPE) + 100], axis=3)

CASES = [
    Case("N1", "plain", nifti(), converts(_one())),
    Case(
        "N2",
        "sform and qform differ",
        nifti(qoffset_x=5.0),
        converts(_one(flags=("sform_qform_differ",))),
    ),
    Case(
        "N2b",
        "sform and qform differ, strict",
        nifti(qoffset_x=5.0),
        refuses("frames_differ", 1),
        {"irregular": {"frames_differ": "quarantine"}},
    ),
    Case("N3", "both codes 0", nifti(sform_code=0, qform_code=0), refuses("no_orientation", 1)),
    Case(
        "N4",
        "sheared sform",
        nifti(phantom(_SHEARED, SHAPE), _SHEARED),
        converts(Expected(_SHEARED, intensity="", tolerance=RESAMPLED, regularized=("shear",))),
    ),
    Case(
        "N5",
        "sform all 0",
        nifti(srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4),
        refuses("bad_affine", 1),
    ),
    Case("N5b", "sform NaN", nifti(srow_x=[np.nan] * 4), refuses("bad_affine", 1)),
    Case("N6", "pixdim 0, sform valid", nifti(pixdim=[1, 0, 0, 0, 0, 0, 0, 0]), converts(_one())),
    Case(
        "N6b",
        "pixdim 0, no sform",
        nifti(sform_code=0, pixdim=[1, 0, 0, 0, 0, 0, 0, 0]),
        refuses("bad_affine", 1),
    ),
    Case(
        "N7",
        "quaternion norm over 1",
        nifti(sform_code=0, quatern_b=1.0, quatern_c=1.0, quatern_d=1.0),
        refuses("bad_affine", 1),
    ),
    Case("N8", "scl_slope 0", nifti(scl_slope=0, scl_inter=5), converts(_one())),
    Case("N8b", "scl_slope NaN", nifti(scl_slope=np.nan, scl_inter=np.nan), converts(_one())),
    Case(
        "N9",
        "scl 0.5, -1024",
        nifti((2 * (phantom(RAS, SHAPE) + 1024)).astype(np.int16), scl_slope=0.5, scl_inter=-1024),
        converts(_one()),
    ),
    Case("N10", "truncated .nii", raw(lambda: _plain()[:-50]), refuses("truncated_file", 1)),
    Case(
        "N11",
        "truncated .nii.gz",
        raw(lambda: gzip.compress(_plain())[:-50], "v.nii.gz"),
        refuses("truncated_file", 1),
    ),
    Case(
        "N12", "wrong checksum", raw(_bad_checksum, "v.nii.gz"), refuses("damaged_compression", 1)
    ),
    Case("N13", "vox_offset 0", nifti(vox_offset=0), refuses("bad_offset", 1)),
    Case("N14", "vox_offset past the end", nifti(vox_offset=10**6), refuses("bad_offset", 1)),
    Case(
        "N14b",
        "bad magic",
        nifti(magic=b"xyz"),
        Expect((), {("quarantined", "damaged_header"): 1}, either=("not_dicom",)),
    ),
    Case("N14c", "plain file named .gz", raw(_plain, "v.nii.gz"), converts(_one())),
    Case(
        "N14d",
        "empty",
        raw(b""),
        Expect((), {("quarantined", "damaged_header"): 1}, either=("truncated_file", "not_dicom")),
    ),
    Case(
        "N15",
        "dims 32767^3",
        nifti(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]),
        refuses("too_large", 1),
    ),
    Case("N15b", "9 GiB of zeros, packed", raw(_zeros_packed, "v.nii.gz"), refuses("too_large", 1)),
    Case(
        "N16", "negative dim", nifti(dim=[3, 16, -14, 12, 1, 1, 1, 1]), refuses("bad_dimensions", 1)
    ),
    Case("N16b", "zero dim", nifti(dim=[3, 16, 0, 12, 1, 1, 1, 1]), refuses("bad_dimensions", 1)),
    Case("N17", "RGB24", nifti(_RGB), skips("rgb")),
    Case("N18", "complex", nifti(np.zeros(SHAPE, np.complex64)), skips("complex_values")),
    Case(
        "N18b", "5D vectors", nifti(np.zeros((*SHAPE, 1, 3), np.float32)), skips("complex_values")
    ),
    Case("N19", "4D", nifti(_FRAMES), converts(_one(), _one(field=later))),
    Case(
        "N19b",
        "4D, time series left out",
        nifti(_FRAMES),
        skips("time_series"),
        {"irregular": {"time_series": "skip"}},
    ),
    Case("N19c", "[X, Y, Z, 1]", nifti(phantom(RAS, SHAPE)[..., None]), converts(_one())),
    Case(
        "N20",
        "few NaN",
        nifti(_not_numbers(0.004)),
        converts(_one(field=_lowest_in_first_row, flags=("not_finite_replaced",))),
    ),
    Case("N20b", "5 % NaN", nifti(_not_numbers(0.05)), refuses("not_finite", 1)),
    Case("N21", "big endian", raw(_big_endian), converts(_one())),
    Case("N21b", "NIfTI-2", raw(_second_version), converts(_one())),
    Case("N22", "micron", raw(_micron), converts(_one())),
    Case("N23", "int64", nifti(phantom(RAS, SHAPE).astype(np.int64)), converts(_one())),
]
