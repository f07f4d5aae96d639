"""The DICOM part of the shipped data: real slices with planted, invented identifiers."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import JPEG2000Lossless, generate_uid
from scipy import ndimage

PRIVATE_CREATOR = "CANARY HOSPITAL 1.0"
CT_SLICES = range(14, 40)  # file numbers in the source series: the chest, 26 contiguous slices
TRUNCATED_SLICE = 45  # another slice of the same series
TRUNCATED_BYTES = 60_000


@dataclass(frozen=True)
class Person:
    """An invented person. Every field is a canary: it must never leave the private folder."""

    name: str
    patient_id: str
    birth_date: str
    referring: str
    institution: str
    accession: str
    address: str
    telephone: str
    private_text: str

    def canaries(self) -> list[str]:
        """All strings to search for."""
        family, given = self.name.split("^")
        named = (self.name, f"{family} {given}", self.patient_id, self.birth_date, self.referring)
        rest = (self.institution, self.accession, self.address, self.telephone)
        return [*named, *rest, self.private_text]


ALICE = Person(
    name="Canary^Alice",
    patient_id="CANARY-ID-19283746",
    birth_date="19340217",
    referring="Finchley^Rosalind",
    institution="Budgerigar General Hospital",
    accession="ACC5550001CANARY",
    address="17 Aviary Lane, Featherton",
    telephone="+1-555-0142-7788",
    private_text="private note: Alice Canary, ward 7B",
)
BOB = Person(
    name="Canary^Bob",
    patient_id="CANARY-ID-56473829",
    birth_date="19410923",
    referring="Goldcrest^Edmund",
    institution="Nightingale Imaging Centre",
    accession="ACC5550002CANARY",
    address="4 Roost Street, Nestbury",
    telephone="+1-555-0166-9911",
    private_text="private note: Bob Canary, ward 2C",
)
CAROL = Person(
    name="Canary^Carol",
    patient_id="CANARY-ID-33445566",
    birth_date="19520730",
    referring="Kittiwake^Harriet",
    institution="Sandpiper Clinic",
    accession="ACC5550003CANARY",
    address="88 Perch Road, Wingham",
    telephone="+1-555-0177-3322",
    private_text="private note: Carol Canary, ward 5A",
)
PEOPLE = (ALICE, BOB, CAROL)
NAME_IN_FILE_NAMES = "Canary_Bob"


def build_dicom(source: Path, out: Path) -> None:
    """Write every DICOM file below `out`."""
    chest = source / "dicom-series" / "acrin_chest_ct"
    for number in CT_SLICES:
        ds = halved(pydicom.dcmread(chest / f"1-{number:03d}.dcm"))
        plant(ds, ALICE)
        write(ds, out / "dicom" / "ct_chest" / _random_name(number), jpeg2000=True)

    adc = source / "dicom-series" / "prostatex0000_adc"
    for number, path in enumerate(sorted(adc.iterdir()), start=1):
        ds = pydicom.dcmread(path)
        plant(ds, BOB)
        write(ds, out / "dicom" / "mr_prostate_adc" / f"{NAME_IN_FILE_NAMES}_{number:02d}.dcm")

    t2 = source / "dicom-series" / "prostatex0000_t2_tra"
    for number, path in enumerate(sorted(t2.iterdir()), start=1):
        ds = halved(pydicom.dcmread(path))
        plant(ds, BOB)
        write(ds, out / "dicom" / "mr_prostate_t2" / f"IM{number:06d}", jpeg2000=True)

    ds = halved(pydicom.dcmread(chest / f"1-{TRUNCATED_SLICE:03d}.dcm"))
    plant(ds, ALICE)
    ds.SeriesInstanceUID = _new_uid(ds.SeriesInstanceUID, "truncated")
    ds.SeriesDescription = "interrupted transfer"
    target = out / "trouble" / "truncated_dicom" / "IM000001.dcm"
    write(ds, target)
    target.write_bytes(target.read_bytes()[:TRUNCATED_BYTES])

    build_localizer(source / "dicom-cases" / "decubitus-right" / "2_t1_fl2d_sag", out)


def build_localizer(series: Path, out: Path) -> None:
    """Three orthogonal images through the middle of a sagittal head series, 2 mm pixels.

    The sagittal image is the series' middle slice; the other two are cut through the stack.
    The series is strictly axis-aligned, so patient axes are array axes.
    """
    slices = [pydicom.dcmread(path) for path in series.iterdir()]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[0]))
    template = slices[len(slices) // 2]
    x0, y0, z0 = (float(v) for v in slices[0].ImagePositionPatient)
    gap_mm = float(slices[1].ImagePositionPatient[0]) - x0
    pixel_mm = float(template.PixelSpacing[0])
    stack = np.stack([ds.pixel_array for ds in slices]).astype(np.float64)  # x, down (-z), y
    stack = ndimage.gaussian_filter(stack, (0.0, 0.7, 0.7))
    n = 96
    half_mm = float(n)  # n pixels of 2 mm
    middle = np.array([0.0, y0 + 127.5 * pixel_mm, z0 - 127.5 * pixel_mm])
    axes = {"sag": ("y", "-z"), "cor": ("x", "-z"), "tra": ("x", "y")}
    vectors = {"x": np.eye(3)[0], "y": np.eye(3)[1], "-z": -np.eye(3)[2]}
    for number, (plane, (row_axis, column_axis)) in enumerate(axes.items(), start=1):
        row, column = vectors[row_axis], vectors[column_axis]
        start = middle - (half_mm - 1.0) * (row + column)
        steps = 2.0 * np.arange(n)
        points = start + steps[:, None, None] * column + steps[None, :, None] * row
        index = [
            (points[..., 0] - x0) / gap_mm,
            (z0 - points[..., 2]) / pixel_mm,
            (points[..., 1] - y0) / pixel_mm,
        ]
        ds = pydicom.dcmread(template.filename)
        ds.remove_private_tags()  # Siemens' own headers are larger than these images
        image = np.rint(ndimage.map_coordinates(stack, index, order=1)).astype(np.uint16)
        _set_pixels(ds, image)
        ds.PixelSpacing = [2.0, 2.0]
        ds.ImagePositionPatient = [float(v) for v in start]
        ds.ImageOrientationPatient = [float(v) for v in (*row, *column)]
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        ds.StudyDescription = "Head"  # the source names a researcher there
        ds.SeriesDescription = "localizer"
        ds.InstanceNumber = number
        ds.SeriesInstanceUID = _new_uid(ds.SeriesInstanceUID, "localizer")
        ds.SOPInstanceUID = _new_uid(ds.SOPInstanceUID, plane)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        plant(ds, CAROL)
        write(ds, out / "trouble" / "dicom_localizer" / f"{number}-{plane}.dcm")


def halved(ds: pydicom.Dataset) -> pydicom.Dataset:
    """Average 2 x 2 pixels; spacing and position follow, so that geometry stays exact."""
    pixels = ds.pixel_array.astype(np.float64)
    rows, columns = (length // 2 for length in pixels.shape)
    mean = pixels.reshape(rows, 2, columns, 2).mean(axis=(1, 3))
    row_mm, column_mm = (float(v) for v in ds.PixelSpacing)
    directions = np.array([float(v) for v in ds.ImageOrientationPatient]).reshape(2, 3)
    shift = 0.5 * (column_mm * directions[0] + row_mm * directions[1])
    position = np.array([float(v) for v in ds.ImagePositionPatient]) + shift
    ds.ImagePositionPatient = [f"{value:.8f}"[:16] for value in position]
    ds.PixelSpacing = [2 * row_mm, 2 * column_mm]
    _set_pixels(ds, np.rint(mean).astype(np.uint16))
    return ds


def plant(ds: pydicom.Dataset, person: Person) -> None:
    """Put an invented person into the header: plain, nested, free-text and private elements."""
    family, given = person.name.split("^")
    ds.PatientName = person.name
    ds.PatientID = person.patient_id
    ds.PatientBirthDate = person.birth_date
    ds.ReferringPhysicianName = person.referring
    ds.InstitutionName = person.institution
    ds.AccessionNumber = person.accession
    ds.PatientAddress = person.address
    ds.PatientTelephoneNumbers = person.telephone
    ds.StudyDescription = f"{ds.get('StudyDescription', '')} {family} {given}".strip()[:64]
    request = pydicom.Dataset()
    request.RequestedProcedureDescription = f"for {person.name}"
    request.ScheduledProcedureStepID = person.accession
    ds.RequestAttributesSequence = pydicom.Sequence([request])
    block = ds.private_block(0x0077, PRIVATE_CREATOR, create=True)
    block.add_new(0x01, "LO", person.private_text)


def write(ds: pydicom.Dataset, target: Path, *, jpeg2000: bool = False) -> None:
    """Save, as JPEG 2000 lossless where asked; original UIDs stay."""
    if jpeg2000:
        ds.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(buffer.getvalue())


def _set_pixels(ds: pydicom.Dataset, image: NDArray[np.uint16]) -> None:
    ds.Rows, ds.Columns = image.shape
    ds.PixelData = image.tobytes()
    for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue"):
        if keyword in ds:
            delattr(ds, keyword)


def _new_uid(original: str, purpose: str) -> str:
    return str(generate_uid(entropy_srcs=[original, purpose]))


def _random_name(number: int) -> str:
    digest = hashlib.sha256(f"slice {number}".encode()).hexdigest()
    return digest[:8].upper() + (".dcm" if number % 3 == 0 else "")
