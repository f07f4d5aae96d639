"""Rows about which slices belong together, and in what order."""

from pathlib import Path

from pydicom.uid import generate_uid

from pipelines.benchmarks.cases.alter import (
    Alter,
    Slices,
    again,
    both,
    later,
    renumbered,
    same_series,
    series,
    values,
    without,
)
from pipelines.benchmarks.cases.case import (
    AXIAL,
    SHAPE,
    Case,
    Expected,
    converts,
    refuses,
    skipped,
    skips,
)
from pipelines.benchmarks.cases.phantoms import affine_ras, dicom_slices, phantom, save

MR = Expected(intensity="arbitrary")
_LATER = Expected(field=later, intensity="arbitrary")
_SMALL = (10, 9, 8)


def copied(*, new_uid: bool, other_pixels: bool = False) -> Alter:
    """Add a second copy of slice 5."""

    def alter(slices: Slices) -> Slices:
        [copy] = dicom_slices(phantom(AXIAL, SHAPE), AXIAL)[5:6]
        same_series(copy, slices[5])
        copy.SOPInstanceUID = generate_uid() if new_uid else slices[5].SOPInstanceUID
        if other_pixels:
            copy.PixelData = copy.PixelData[::-1]
        return [*slices, copy]

    return alter


def _two(first: dict[str, object], second: dict[str, object]) -> Alter:
    """Add a second image of each place; the two are told apart by attributes."""
    return lambda slices: [*values(**first)(slices), *again(slices, **second)]


def _three_times(slices: Slices) -> Slices:
    second = again(slices, TemporalPositionIdentifier=2)
    third = again(slices, TemporalPositionIdentifier=3)
    for before, ds in zip(second, third, strict=True):
        ds.PixelData, ds.InstanceNumber = before.PixelData[:], before.InstanceNumber + len(second)
    values(TemporalPositionIdentifier=1)(slices)
    return [*slices, *second, *third]


def _with(other_affine_degrees: tuple[float, float, float], shape: tuple[int, int, int]) -> Alter:
    """Add a second stack of another orientation or size to the series."""

    def alter(slices: Slices) -> Slices:
        affine = affine_ras(other_affine_degrees)
        others = dicom_slices(phantom(affine, shape), affine)
        return [*slices, *(same_series(ds, slices[0]) for ds in others)]

    return alter


def _half_patient(folder: Path) -> object:
    return series(values(PatientID=lambda k: f"P-{k // 6}"))(folder)


def _two_folders_one_series(folder: Path) -> object:
    """Two whole scans of two patients whose archive gave both one series number."""
    slices = dicom_slices(phantom(AXIAL, SHAPE), AXIAL)
    twins = again(slices, PatientID="P-2", InstanceNumber=lambda k: k + 1)
    return save(slices, folder / "one"), save(twins, folder / "two")


def _localizer(slices: Slices) -> Slices:
    [scout] = dicom_slices(phantom(AXIAL, (40, 30, 1)), affine_ras((90, 0, 0)))
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.InstanceNumber = 99
    scout.PixelData, scout.Rows, scout.Columns = bytes(2 * 40 * 30), 30, 40
    return [*slices, same_series(scout, slices[0])]


CASES = [
    Case(
        "1", "reversed InstanceNumber", series(values(InstanceNumber=lambda k: 12 - k)), converts()
    ),
    Case(
        "3",
        "random InstanceNumber",
        series(values(InstanceNumber=lambda k: k * 7 % 12 + 1)),
        converts(),
    ),
    Case("4", "no InstanceNumber", series(without("InstanceNumber")), converts()),
    Case(
        "13",
        "one missing slice",
        series(lambda s: s[:5] + s[6:]),
        refuses("missing_slices", 11, Expected()),
    ),
    Case(
        "13b",
        "one missing slice, filled",
        series(lambda s: s[:5] + s[6:]),
        converts(Expected(regularized=("filled",), tolerance=1.0)),
        {"irregular": {"fill_missing": 1}},
    ),
    Case(
        "14",
        "duplicate slice, new UID",
        series(copied(new_uid=True)),
        converts(others=skipped("duplicate_slice")),
    ),
    Case(
        "15",
        "duplicate file, same UID",
        series(copied(new_uid=False)),
        converts(others=skipped("duplicate_slice")),
    ),
    Case(
        "16",
        "two phases, no time tags",
        series(_two({}, {})),
        converts(Expected(), Expected(field=later)),
    ),
    Case(
        "19", "localizer in the series", series(_localizer), converts(others=skipped("localizer"))
    ),
    Case(
        "20", "three time points", series(_three_times, modality="MR"), converts(MR, _LATER, _LATER)
    ),
    Case(
        "21",
        "two echoes",
        series(_two({"EchoTime": 20}, {"EchoTime": 80}), modality="MR"),
        converts(MR, _LATER),
    ),
    Case(
        "22",
        "two b-values",
        series(_two({"DiffusionBValue": 0.0}, {"DiffusionBValue": 800.0}), modality="MR"),
        converts(MR, _LATER),
    ),
    Case(
        "29",
        "a series number per file",
        series(renumbered),
        refuses("single_slices", 12, Expected()),
    ),
    Case(
        "29b",
        "a series number per file, merged",
        series(renumbered),
        converts(),
        {"irregular": {"merge_single_slices": True}},
    ),
    Case(
        "30",
        "two orientations, one UID",
        series(_with((90, 0, 0), SHAPE)),
        converts(Expected(), Expected(affine_ras((90, 0, 0)))),
    ),
    Case(
        "31",
        "two matrix sizes, one UID",
        series(_with((0, 0, 0), _SMALL)),
        converts(Expected(), Expected(shape=_SMALL)),
    ),
    Case("32", "single slice", series(lambda s: s[:1]), skips("too_few_slices")),
    Case(
        "32b",
        "single slice, 2D mode",
        series(both(lambda s: s[:1], values(SliceThickness=3))),
        converts(Expected(shape=(*SHAPE[:2], 1))),
        {"min_slices": 1},
    ),
    Case(
        "39",
        "same SOP UID, other pixels",
        series(copied(new_uid=False, other_pixels=True)),
        refuses("sop_uid_conflict", 13),
    ),
    Case(
        "43",
        "derived MPR",
        series(values(ImageType=["DERIVED", "SECONDARY", "MPR"])),
        converts(Expected(flags=("derived",))),
    ),
    Case(
        "43b",
        "MIP",
        series(values(ImageType=["DERIVED", "SECONDARY", "MIP"])),
        skips("projection", 12),
    ),
    Case("81", "no frame of reference", series(without("FrameOfReferenceUID")), converts()),
    Case(
        "83",
        "two frames of reference",
        series(values(FrameOfReferenceUID=lambda k: f"1.2.{3 + k // 6}")),
        refuses("frame_of_reference_varies", 12, Expected()),
    ),
    Case(
        "89",
        "TE jitter of 0.01 ms",
        series(values(EchoTime=lambda k: 20 + 0.01 * (k % 2)), modality="MR"),
        converts(MR),
    ),
    Case(
        "93",
        "StudyTime varies by slice",
        series(values(StudyTime=lambda k: f"1200{k:02d}")),
        converts(),
    ),
    Case("95", "two patients in one series", _half_patient, refuses("patient_conflict")),
    Case(
        "95b",
        "two patients, two scans, one UID",
        _two_folders_one_series,
        refuses("patient_conflict", 24),
    ),
]
