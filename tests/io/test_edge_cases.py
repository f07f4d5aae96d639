"""The specification's table of edge cases, row by row: what one DICOM series becomes."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.read import DicomVolume, read_series
from medssl.io.limits import IrregularPolicy, Limits
from tests.phantoms import affine_ras, dicom_slices, phantom, save, value_error

SHAPE = (7, 6, 12)
AXIAL = affine_ras()


@dataclass(frozen=True)
class Row:
    """One row: how a plain series is altered, and what must become of its slices."""

    name: str
    alter: Any
    volumes: int = 1
    refused: tuple[tuple[str, int], ...] = ()
    flags: tuple[str, ...] = ()
    regularized: tuple[str, ...] = ()


def each(edit):
    """Alter every slice by itself."""

    def alter(slices):
        for index, ds in enumerate(slices):
            edit(ds, index)
        return slices

    return alter


def value(keyword, of):
    """Give ``keyword`` the value ``of(index)``."""
    return each(lambda ds, index: setattr(ds, keyword, of(index)))


def without(keyword):
    """Leave one attribute out of every slice."""
    return each(lambda ds, index: delattr(ds, keyword))


def moved(axis, by_mm):
    """Move each slice; its voxels keep the values of where it stood."""

    def edit(ds, index):
        position = [float(v) for v in ds.ImagePositionPatient]
        position[axis] += by_mm(index)
        ds.ImagePositionPatient = [format_number_as_ds(v) for v in position]

    return each(edit)


def copied(*, new_uid, other_pixels=False):
    """Add a second copy of slice 5."""

    def alter(slices):
        [again] = dicom_slices(phantom(AXIAL, SHAPE), AXIAL)[5:6]
        again.StudyInstanceUID = slices[0].StudyInstanceUID
        again.SeriesInstanceUID = slices[0].SeriesInstanceUID
        again.FrameOfReferenceUID = slices[0].FrameOfReferenceUID
        again.SOPInstanceUID = generate_uid() if new_uid else slices[5].SOPInstanceUID
        if other_pixels:
            again.PixelData = again.PixelData[::-1]
        return [*slices, again]

    return alter


def _localizer(slices):
    slices[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return slices


def _capture(slices):
    slices[0].SOPClassUID = SecondaryCaptureImageStorage
    return slices


def outcomes(folder, limits):
    """Return volumes, and reason codes with the number of files; headers may be refused too."""
    pseudonymizer, headers, volumes, codes = Pseudonymizer.ephemeral(), [], [], Counter()
    for path in sorted(folder.iterdir()):
        try:
            headers += read_headers(path, path.name, pseudonymizer, limits)
        except RejectedFileError as error:
            codes[error.code] += 1
    for item in read_series(headers, limits):
        if isinstance(item, DicomVolume):
            volumes.append(item)
        else:
            codes[item.error.code] += len(item.slices)
    return volumes, dict(codes)


ROWS = [
    Row("1-reversed InstanceNumber", value("InstanceNumber", lambda k: 12 - k)),
    Row("3-random InstanceNumber", value("InstanceNumber", lambda k: k * 7 % 12 + 1)),
    Row("4-no InstanceNumber", without("InstanceNumber")),
    Row("13-one missing slice", lambda s: s[:5] + s[6:], 0, (("missing_slices", 11),)),
    Row("14-duplicate, new UID", copied(new_uid=True), 1, (("duplicate_slice", 1),)),
    Row("15-duplicate, same UID", copied(new_uid=False), 1, (("duplicate_slice", 1),)),
    Row("19-localizer in the series", _localizer, 1, (("localizer", 1),)),
    Row("23-secondary capture", _capture, 1, (("secondary_capture", 1),)),
    Row("26-no position", without("ImagePositionPatient"), 0, (("no_geometry", 12),)),
    Row("82-no orientation", without("ImageOrientationPatient"), 0, (("no_geometry", 12),)),
    Row(
        "27-PixelSpacing 0", value("PixelSpacing", lambda k: [0, 0]), 0, (("no_pixel_spacing", 12),)
    ),
    Row("28-no PixelSpacing", without("PixelSpacing"), 0, (("no_pixel_spacing", 12),)),
    Row("32-single slice", lambda s: s[:1], 0, (("too_few_slices", 1),)),
    Row("33-thickness is not spacing", value("SliceThickness", lambda k: 9)),
    Row("34-position jitter", moved(0, lambda k: 4e-6 * (-1) ** k)),
    Row(
        "39-one UID, other pixels",
        copied(new_uid=False, other_pixels=True),
        0,
        (("sop_uid_conflict", 13),),
    ),
    Row(
        "43-derived",
        value("ImageType", lambda k: ["DERIVED", "SECONDARY", "MPR"]),
        flags=("derived",),
    ),
    Row("81-no frame of reference", without("FrameOfReferenceUID")),
    Row(
        "83-two frames of reference",
        value("FrameOfReferenceUID", lambda k: f"1.2.{3 + k // 6}"),
        0,
        (("frame_of_reference_varies", 12),),
    ),
    Row("89-TE jitter", value("EchoTime", lambda k: 20 + 0.01 * (k % 2))),
    Row("93-StudyTime varies", value("StudyTime", lambda k: f"1200{k:02d}")),
    Row(
        "95-two patients",
        value("PatientID", lambda k: f"P-{k // 6}"),
        0,
        (("patient_conflict", 12),),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(row, tmp_path):
    slices = row.alter(dicom_slices(phantom(AXIAL, SHAPE), AXIAL))
    files = len(save(slices, tmp_path))
    volumes, refused = outcomes(tmp_path, Limits())
    assert refused == dict(row.refused)
    assert len(volumes) == row.volumes
    assert sum(len(v.slices) for v in volumes) + sum(refused.values()) == files
    for made in volumes:
        assert value_error(made.volume.array_IJK, made.volume.affine_ras) <= 1
        assert made.volume.regularized == row.regularized
        assert set(row.flags) <= set(made.flags)


def test_row_24_one_slice_truncated(tmp_path):
    paths = save(dicom_slices(phantom(AXIAL, SHAPE), AXIAL), tmp_path)
    paths[4].write_bytes(paths[4].read_bytes()[:-30])
    assert outcomes(tmp_path, Limits()) == ([], {"truncated_pixel_data": 12})


def test_row_13_filled(tmp_path):
    slices = dicom_slices(phantom(AXIAL, SHAPE), AXIAL)
    save(slices[:5] + slices[6:], tmp_path)
    [made], refused = outcomes(tmp_path, Limits(policy=IrregularPolicy(fill_missing=1)))
    assert refused == {}
    assert made.volume.regularized == ("filled",)
    assert [source.filled for source in made.volume.slices].count(True) == 1
    assert value_error(made.volume.array_IJK, made.volume.affine_ras) <= 1


def test_a_row_judged_wrong_would_fail():
    voxels = phantom(AXIAL, SHAPE)
    assert value_error(np.flip(voxels, 2), AXIAL) > 1
