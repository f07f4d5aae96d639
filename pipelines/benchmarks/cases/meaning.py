"""Rows about what the stored numbers mean, and how they are packed."""

import tempfile
from pathlib import Path

import gdcm
import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
)

from pipelines.benchmarks.cases.alter import (
    Alter,
    Build,
    Slices,
    both,
    each,
    in_pixels,
    only,
    series,
    stored_as,
    values,
    without,
)
from pipelines.benchmarks.cases.case import (
    AXIAL,
    SHAPE,
    Case,
    Expect,
    Expected,
    converts,
    refuses,
)
from pipelines.benchmarks.cases.phantoms import (
    CT_INTERCEPT,
    Array,
    dicom_slices,
    enhanced,
    exact_field_hu,
    phantom,
    save,
)

_PADDED, _OUTSIDE = 2, -2000
_WIDE_HU = 40000.0
_LARGE = (64, 48, 12)
"""JPEG 2000 halves images five times."""


def _padded(stored: Array, _: int) -> Array:
    """Mark the first columns as outside the field of view."""
    new = stored.copy()
    new[:, :_PADDED] = _OUTSIDE
    return new


def air_beside(points_ras: Array) -> Array:
    """F where the first columns are air: x falls by 1.5 mm a column, from -20."""
    outside = points_ras[..., 0] > -20 - 1.5 * (_PADDED - 0.5)
    return np.where(outside, -1000.0, exact_field_hu(points_ras))


def padding_kept(points_ras: Array) -> Array:
    """F where the padding was rescaled like any other value."""
    air = air_beside(points_ras) != exact_field_hu(points_ras)
    return np.where(air, _OUTSIDE + CT_INTERCEPT, exact_field_hu(points_ras))


def _slopes(slope: float, step: float) -> Alter:
    """Store F + 1024 in steps of another size in each slice."""

    def alter(slices: Slices) -> Slices:
        sizes = [slope + step * index for index in range(len(slices))]
        in_pixels(slices, lambda stored, k: np.rint(stored / sizes[k]).astype(np.int16))
        return values(RescaleSlope=lambda k: sizes[k], RescaleIntercept=CT_INTERCEPT)(slices)

    return alter


def _pet(slices: Slices) -> Slices:
    slices = values(
        SOPClassUID=PositronEmissionTomographyImageStorage, Modality="PT", Units="CNTS"
    )(slices)
    return _slopes(0.7, 0.05)(slices)


def _garbage(stored: Array, k: int) -> Array:
    return np.asarray((stored.astype(np.uint16) & 0x0FFF) | (((k % 15) + 1) << 12)).astype(
        np.uint16
    )


def _sign_varies(stored: Array, k: int) -> Array:
    return stored.astype(np.int16 if k % 2 else np.uint16)


def _wide(points_ras: Array) -> Array:
    return exact_field_hu(points_ras) + _WIDE_HU


def _raised(stored: Array, _: int) -> Array:
    return (stored.astype(np.int32) + int(_WIDE_HU)).astype(np.uint16)


def _plus_1000(stored: Array, _: int) -> Array:
    """As scanners store, HU + 1024, where no rescale value says so: air near 0, tissue above."""
    return stored + np.int16(200)


def _as_hounsfield(slices: Slices) -> Slices:
    """Values that can only be Hounsfield units: air at -1000 to bone."""
    in_pixels(slices, lambda stored, _: stored + np.int16(CT_INTERCEPT))
    air = both(lambda s: in_pixels(s, _with_air), without("RescaleSlope", "RescaleIntercept"))
    return air(slices)


def _with_air(stored: Array, _: int) -> Array:
    new = stored.copy()
    new[:, :_PADDED] = -1000
    return new


def _packed(syntax: UID) -> Alter:
    return each(lambda ds, _: ds.compress(syntax))


def _saved_as(syntax: UID) -> Build:
    """Return a builder of a series in a transfer syntax that is not compressed."""

    def build(folder: Path) -> object:
        little = syntax != ExplicitVRBigEndian
        slices = dicom_slices(phantom(AXIAL, SHAPE), AXIAL)
        for ds in slices:
            ds.file_meta.TransferSyntaxUID = syntax
            if not little:
                ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
                ds["PixelData"].VR = "OW"
        return save(slices, folder)

    return build


def _jpeg_lossless(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as plain:
        for path in save(
            values(PixelRepresentation=0)(dicom_slices(phantom(AXIAL, SHAPE), AXIAL)), Path(plain)
        ):
            reader, writer, change = (
                gdcm.ImageReader(),
                gdcm.ImageWriter(),
                gdcm.ImageChangeTransferSyntax(),
            )
            reader.SetFileName(str(path))
            if not reader.Read():
                raise RuntimeError("gdcm cannot read the phantom")
            change.SetTransferSyntax(
                gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1)
            )
            change.SetInput(reader.GetImage())
            if not change.Change():
                raise RuntimeError("gdcm cannot pack the phantom")
            writer.SetFileName(str(folder / path.name))
            writer.SetFile(reader.GetFile())
            writer.SetImage(change.GetOutput())
            if not writer.Write():
                raise RuntimeError("gdcm cannot write the phantom")


def _multiframe(folder: Path) -> object:
    slices = dicom_slices(phantom(AXIAL, SHAPE), AXIAL)
    return save([enhanced(slices, LegacyConvertedEnhancedCTImageStorage)], folder)


def _bare(folder: Path) -> None:
    """Data sets alone, without preamble and file meta information."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, ds in enumerate(dicom_slices(phantom(AXIAL, SHAPE), AXIAL)):
        bare = Dataset(ds)
        bare.save_as(
            folder / f"{index}", implicit_vr=True, little_endian=True, enforce_file_format=False
        )


def _truncated(folder: Path) -> None:
    first, *_ = save(dicom_slices(phantom(AXIAL, SHAPE), AXIAL), folder)
    first.write_bytes(first.read_bytes()[:-30])


def _padding_as_unsigned(ds: Dataset, _: int) -> None:
    ds.add_new("PixelPaddingValue", "US", _OUTSIDE + 2**16)


def _huge(ds: Dataset) -> None:
    ds.Rows = ds.Columns = 65535


_PADDING = Expect(
    (Expected(field=air_beside, flags=("padding_replaced",)),), fair=(Expected(field=padding_kept),)
)

CASES = [
    Case(
        "8",
        "per-slice slope (PET)",
        series(_pet),
        converts(Expected(tolerance=1.2, intensity="unknown")),
    ),
    Case("9", "fractional slope", series(_slopes(0.5, 0)), converts(Expected())),
    Case(
        "10",
        "MONOCHROME1 CT, flagged",
        series(values(PhotometricInterpretation="MONOCHROME1")),
        converts(Expected(flags=("monochrome1",))),
    ),
    Case(
        "11",
        "padding -2000",
        series(stored_as(_padded, PixelPaddingValue=_OUTSIDE)),
        _PADDING,
    ),
    Case(
        "12",
        "garbage above 12 bits",
        series(stored_as(_garbage, BitsStored=12, HighBit=11)),
        converts(),
    ),
    Case("24", "one slice truncated", _truncated, refuses("truncated_pixel_data")),
    Case("36", "PixelRepresentation varies", series(stored_as(_sign_varies)), converts()),
    Case("37", "no preamble, no meta", _bare, converts()),
    Case(
        "38", "65535 x 65535 in 4 kB", series(only(5, _huge)), refuses("pixel_length_mismatch", 12)
    ),
    Case(
        "41",
        "padding -2000 as 63536",
        series(both(stored_as(_padded), each(_padding_as_unsigned))),
        _PADDING,
    ),
    Case("44", "unsigned above 32767", series(stored_as(_raised)), converts(Expected(field=_wide))),
    *(
        Case(row, name, _saved_as(syntax), converts())
        for row, name, syntax in (
            ("50", "implicit VR", ImplicitVRLittleEndian),
            ("51", "big endian", ExplicitVRBigEndian),
            ("52", "deflated", DeflatedExplicitVRLittleEndian),
        )
    ),
    *(
        Case(row, name, series(_packed(syntax)), converts())
        for row, name, syntax in (("53", "RLE", RLELossless), ("54", "JPEG-LS", JPEGLSLossless))
    ),
    Case(
        "55",
        "JPEG 2000",
        series(_packed(JPEG2000Lossless), shape=_LARGE),
        converts(Expected(shape=_LARGE)),
    ),
    Case("56", "JPEG lossless", _jpeg_lossless, converts()),
    Case("57", "enhanced multi-frame CT", _multiframe, converts()),
    Case(
        "87",
        "RescaleSlope 0",
        series(values(RescaleSlope=0)),
        converts(Expected(flags=("rescale_slope_zero",))),
    ),
    Case(
        "88",
        "CT without rescale",
        series(both(stored_as(_plus_1000), without("RescaleSlope", "RescaleIntercept"))),
        refuses("ct_no_rescale"),
    ),
    Case(
        "88b",
        "CT without rescale, in HU",
        series(_as_hounsfield),
        converts(Expected(field=air_beside)),
    ),
]
