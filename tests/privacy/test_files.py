"""One file that may leave: it names nobody, is valid DICOM, and holds the same scan."""

import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import (
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    PositronEmissionTomographyImageStorage,
)

from medssl.io.dicom.read import read_dicom_folder
from tests import canaries, phantoms
from tests.privacy.scans import leaks

DCM2NIIX = Path(sys.executable).with_name("dcm2niix")  # of the package of that name
DCIODVFY = shutil.which("dciodvfy")


def test_the_scan_is_the_same_for_medssl_and_for_others(source, clean, tmp_path):
    _, files = clean(source)
    folder = files[0].parent
    before, after = (
        read_dicom_folder(path)[0].volume for path in (source / canaries.FOLDER, folder)
    )
    np.testing.assert_array_equal(before.array_IJK, after.array_IJK)
    np.testing.assert_array_equal(before.affine_ras, after.affine_ras)
    assert phantoms.value_error(after.array_IJK, after.affine_ras) < 1
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = SimpleITK.ReadImage(names)
    assert image.GetSize() == before.array_IJK.shape
    made = tmp_path / "nii"
    made.mkdir()
    subprocess.run([DCM2NIIX, "-o", made, folder], check=True, capture_output=True)
    assert list(made.glob("*.nii"))


def errors(path):
    said = subprocess.run([DCIODVFY, "-new", path], capture_output=True, text=True, check=False)
    return {line for line in said.stderr.splitlines() if line.startswith("Error")}


@pytest.mark.skipif(DCIODVFY is None, reason="needs dciodvfy of dicom3tools")
def test_the_files_are_as_valid_as_before(shipped, shared, clean, tmp_path):
    chosen = [next(folder.glob("*")) for folder in (shipped / "dicom").iterdir()]
    cases = shared / "data" / "dicom-cases"
    chosen += [
        next(p for p in f.rglob("*.dcm")) for f in (cases / "enhanced").iterdir() if f.is_dir()
    ]
    for number, path in enumerate(chosen):
        _, (written,) = clean(path, out=f"out-{number}", allow_faces=True)
        assert errors(written) - errors(path) == set(), path
    assert len(chosen) >= 4


def test_the_header_says_what_was_done(source, clean):
    _, (first, *_) = clean(source)
    ds = pydicom.dcmread(first)
    assert first.read_bytes()[:128] == bytes(128)
    assert ds.PatientIdentityRemoved == "YES"
    codes = [item.CodeValue for item in ds.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107", "113108"]
    assert ds.LongitudinalTemporalInformationModified == "MODIFIED"
    assert ds.PatientName == ds.PatientID == first.parts[-4]
    assert (ds.PatientSex, ds.PatientAge, ds.PatientWeight) == ("F", "060Y", 61.5)
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    assert "SourceApplicationEntityTitle" not in ds.file_meta
    assert not [element for element in ds.iterall() if element.tag.is_private]
    assert ds.ImageType[:3] == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert len(ds.ImageType) == 4


def test_every_date_of_a_patient_moves_by_the_same_days(source, clean):
    _, (first, *_) = clean(source)
    ds = pydicom.dcmread(first)
    study = date.fromisoformat(ds.StudyDate)
    scan = date.fromisoformat(ds.AcquisitionDateTime[:8])
    assert (scan - study).days == 5
    assert 1 <= (date(2009, 5, 14) - study).days <= 3650
    assert ds.AcquisitionDateTime[8:] == "101112.5"
    assert ds.SeriesTime == "101112"


def test_dates_and_characteristics_can_be_removed(source, clean):
    _, (first, *_) = clean(source, dates="removed", characteristics=False)
    ds = pydicom.dcmread(first)
    assert (ds.StudyDate, ds.SeriesTime, ds.PatientSex) == ("", "000000", "")
    assert ds.AcquisitionDateTime == "19700101000000"
    assert "PatientAge" not in ds
    assert "PatientWeight" not in ds
    assert [i.CodeValue for i in ds.DeidentificationMethodCodeSequence] == ["113100"]
    assert ds.LongitudinalTemporalInformationModified == "REMOVED"


def test_references_still_lead_to_what_they_refer_to(tmp_path, clean):
    uids = []

    def refer(ds, _):
        item = pydicom.Dataset()
        item.ReferencedSOPClassUID = ds.SOPClassUID
        item.ReferencedSOPInstanceUID = uids[0] if uids else ds.SOPInstanceUID
        uids.append(ds.SOPInstanceUID)
        ds.ReferencedImageSequence = [item]

    canaries.write(tmp_path / "in", edit=refer)
    _, files = clean(tmp_path / "in")
    found = [pydicom.dcmread(path) for path in files]
    referred = {ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID for ds in found}
    assert len(referred) == 1
    assert referred < {ds.SOPInstanceUID for ds in found}


def test_pet_keeps_what_its_uptake_needs(tmp_path, clean):
    def dose(ds, _):
        ds.SOPClassUID, ds.Modality, ds.Units = PositronEmissionTomographyImageStorage, "PT", "BQML"
        code, drug = pydicom.Dataset(), pydicom.Dataset()
        code.CodeValue, code.CodingSchemeDesignator = "C-111A1", "SRT"
        code.CodeMeaning = "asked for by Otto M."
        drug.RadionuclideCodeSequence = [code]
        drug.Radiopharmaceutical = canaries.PLANTED["SeriesDescription"]
        drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = "370000000", "6586.2"
        drug.RadiopharmaceuticalStartDateTime = "20090519091112"
        ds.RadiopharmaceuticalInformationSequence = [drug]
        ds.SeriesDate, ds.DecayCorrection = "20090519", "START"

    canaries.write(tmp_path / "in", edit=dose)
    result, files = clean(tmp_path / "in")
    ds = pydicom.dcmread(files[0])
    drug = ds.RadiopharmaceuticalInformationSequence[0]
    assert drug.RadiopharmaceuticalStartDateTime == ds.SeriesDate + "091112"
    assert drug.RadionuclideTotalDose == 370000000
    assert drug.RadionuclideCodeSequence[0].CodeMeaning == "^18^Fluorine"
    assert (ds.Units, ds.DecayCorrection, ds.PatientWeight) == ("BQML", "START", 61.5)
    shutil.rmtree(result.folder / "private")
    assert leaks(result.folder) == []


def test_comments_inside_compressed_pixels_are_blanked(tmp_path, clean):
    affine = phantoms.affine_ras()
    ds = phantoms.dicom_slices(phantoms.phantom(affine, (64, 64, 1)), affine)[0]
    ds.BodyPartExamined = "CHEST"
    pixels = ds.pixel_array
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    text = b"\0\1by Dr. Redpoll"
    comment = b"\xff\x64" + (len(text) + 2).to_bytes(2, "big") + text
    frame = next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))
    end = 4 + int.from_bytes(frame[4:6], "big")
    frame = frame[:end] + comment + frame[end:] + b"after Dr. Redpoll"
    ds.PixelData = pydicom.encaps.encapsulate([frame])
    phantoms.save([ds], tmp_path / "packed")
    _, (written,) = clean(tmp_path / "packed")
    assert b"Redpoll" not in written.read_bytes()
    found = pydicom.dcmread(written)
    assert found.file_meta.TransferSyntaxUID == JPEG2000Lossless
    np.testing.assert_array_equal(found.pixel_array, pixels)


@pytest.mark.parametrize("syntax", [None, ExplicitVRBigEndian])
def test_overlays_drawn_into_unused_bits_are_cleared(tmp_path, clean, syntax):
    def draw(ds, _):
        stored = np.frombuffer(ds.PixelData, "<i2").astype("u2") & 0x0FFF
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
        drawn = stored | 0x8000
        ds.PixelData = drawn.astype(">u2" if syntax else "<u2").tobytes()
        if syntax:
            ds.file_meta.TransferSyntaxUID = syntax

    affine = phantoms.affine_ras()
    slices = phantoms.dicom_slices(phantoms.phantom(affine), affine, edit=draw)
    for ds in slices:
        ds.BodyPartExamined = "CHEST"
    (first, *_) = phantoms.save(slices, tmp_path / "in")
    _, files = clean(tmp_path / "in")
    raw = [pydicom.dcmread(path) for path in files]
    stored = [np.frombuffer(ds.PixelData, ">u2" if syntax else "<u2") for ds in raw]
    assert all((pixels < 4096).all() for pixels in stored)
    before = pydicom.dcmread(first)
    np.testing.assert_array_equal(
        before.pixel_array & 0x0FFF,
        next(d for d in raw if d.InstanceNumber == before.InstanceNumber).pixel_array,
    )
