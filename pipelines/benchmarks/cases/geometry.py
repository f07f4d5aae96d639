"""Rows about where slices lie."""

import numpy as np
from pydicom import DataElement, Dataset, config
from pydicom.uid import generate_uid

from pipelines.benchmarks.cases.alter import (
    Alter,
    Build,
    Slices,
    at_places,
    both,
    each,
    moved,
    only,
    same_series,
    series,
    values,
    without,
)
from pipelines.benchmarks.cases.case import (
    AXIAL,
    RESAMPLED,
    SHAPE,
    Case,
    Expected,
    converts,
    refuses,
    skipped,
)
from pipelines.benchmarks.cases.phantoms import Array, affine_ras, dicom_slices, phantom

OBLIQUE, SAGITTAL, CORONAL = (
    affine_ras(degrees) for degrees in ((12, -8, 20), (90, 0, 90), (90, 0, 0))
)


def tilted(degrees: float) -> Array:
    """Return an axial grid whose slices are shifted along y, as a tilted gantry shifts them."""
    affine = AXIAL.copy()
    affine[1, 2] = AXIAL[2, 2] * np.tan(np.radians(degrees))
    return affine


def _spread(places_mm: list[float]) -> Array:
    """Return the grid of so many slices, if they lay at equal distances."""
    affine = AXIAL.copy()
    affine[2, 2] = (places_mm[-1] - places_mm[0]) / (len(places_mm) - 1)
    return affine


def _uneven(row: str, title: str, steps_mm: list[float]) -> Case:
    places = np.cumsum([0.0, *steps_mm]).tolist()
    shape = (*SHAPE[:2], len(places))
    wanted = Expected(_spread(places), shape, tolerance=RESAMPLED, regularized=("uneven",))
    return Case(row, title, at_places(places), converts(wanted))


def _tilt(row: str, title: str, degrees: float, alter: Alter | None = None) -> Case:
    affine = tilted(degrees)
    wanted = Expected(affine, tolerance=RESAMPLED, regularized=("tilt",))
    return Case(row, title, series(alter, affine=affine), converts(wanted))


def _unsigned(ds: Dataset, _: int) -> None:
    ds.PixelRepresentation = 0


def _two_blocks() -> tuple[Build, Array]:
    """Return a builder of two blocks of one series, and the grid of the second."""
    far = AXIAL.copy()
    far[2, 3] += 190 + 33

    def alter(slices: Slices) -> Slices:
        return [
            *slices,
            *(same_series(ds, slices[0]) for ds in dicom_slices(phantom(far, SHAPE), far)),
        ]

    return series(alter), far


def _near(*, other_pixels: bool) -> Alter:
    def alter(slices: Slices) -> Slices:
        [copy] = dicom_slices(phantom(AXIAL, SHAPE), AXIAL)[5:6]
        same_series(copy, slices[5]).SOPInstanceUID = generate_uid()
        if other_pixels:
            copy.PixelData = copy.PixelData[::-1]
        x, y, z = slices[5].ImagePositionPatient
        copy.ImagePositionPatient = [x, y, float(z) + 0.01]
        return [*slices, copy]

    return alter


def _turned_a_little(ds: Dataset, index: int) -> None:
    ds.ImageOrientationPatient = [1, 3e-5 * (-1) ** index, 0, 0, 1, 0]


def _long_numbers(ds: Dataset, _: int) -> None:
    position = [f"{float(v):+.20f}" for v in ds.ImagePositionPatient]
    ds.add(DataElement("ImagePositionPatient", "DS", position, validation_mode=config.IGNORE))


_BLOCKS, _FAR = _two_blocks()
_IRREGULAR = [0.0, 2.1, 5.3, 9.6, 11.0, 16.2, 18.8, 22.5, 29.4, 31.1, 36.9, 41.0]

CASES = [
    *(
        Case(
            row,
            f"{name} MR",
            series(affine=affine, modality="MR"),
            converts(Expected(affine, intensity="arbitrary")),
        )
        for row, name, affine in (
            ("5", "oblique", OBLIQUE),
            ("6", "sagittal", SAGITTAL),
            ("7", "coronal", CORONAL),
        )
    ),
    _uneven("17", "two spacings", [3.0] * 6 + [5.0] * 5),
    _tilt("18", "gantry tilt +", 15),
    Case("26", "no position", series(without("ImagePositionPatient")), refuses("no_geometry")),
    Case("27", "PixelSpacing 0", series(values(PixelSpacing=[0, 0])), refuses("no_pixel_spacing")),
    Case("28", "no PixelSpacing", series(without("PixelSpacing")), refuses("no_pixel_spacing")),
    Case(
        "28b",
        "ImagerPixelSpacing only",
        series(both(without("PixelSpacing"), values(ImagerPixelSpacing=[2, 1.5]))),
        refuses("no_pixel_spacing"),
    ),
    Case(
        "33",
        "thickness is not spacing",
        series(values(SliceThickness=9, SpacingBetweenSlices=9)),
        converts(),
    ),
    Case(
        "34",
        "position jitter of 4 um",
        series(moved(2, lambda k: 4e-3 * (-1) ** k)),
        converts(Expected(tolerance=0.6)),
    ),
    Case(
        "35",
        "orientation jitter of 3e-5",
        series(each(_turned_a_little)),
        converts(Expected(tolerance=0.6)),
    ),
    Case(
        "40",
        "10 um apart, other pixels",
        series(_near(other_pixels=True)),
        refuses("ambiguous_positions", 13),
    ),
    Case(
        "40b",
        "10 um apart, same pixels",
        series(_near(other_pixels=False)),
        converts(others=skipped("duplicate_slice")),
    ),
    Case(
        "45",
        "all slices in one place",
        series(values(ImagePositionPatient=[0, 0, 0])),
        refuses("coincident_positions"),
    ),
    Case(
        "46",
        "PixelSpacing varies",
        series(values(PixelSpacing=lambda k: [2.0, 1.5 + 0.05 * k])),
        refuses("pixel_spacing_varies"),
    ),
    _tilt("60", "gantry tilt -, tag of the wrong sign", -15, values(GantryDetectorTilt=15)),
    _tilt(
        "70", "gantry tilt, unsigned", 18.5, both(each(_unsigned), values(GantryDetectorTilt=-18.5))
    ),
    _uneven("71", "2.5 mm, then 5 mm", [2.5] * 6 + [5.0] * 6),
    Case("80", "over-long decimal strings", series(each(_long_numbers)), converts()),
    Case(
        "82", "no orientation", series(without("ImageOrientationPatient")), refuses("no_geometry")
    ),
    Case("84", "two blocks 190 mm apart", _BLOCKS, converts(Expected(), Expected(_FAR))),
    Case(
        "85",
        "every distance another",
        at_places(_IRREGULAR),
        refuses("uneven_spacing", 12, Expected(_spread(_IRREGULAR))),
    ),
    Case(
        "26b",
        "one slice without position",
        series(only(4, lambda ds: delattr(ds, "ImagePositionPatient"))),
        refuses("no_geometry"),
    ),
]
