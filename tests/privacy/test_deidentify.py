"""What leaves names nobody, is valid DICOM, and holds the same scan."""

import csv
import os
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

from medssl.config.load import validate
from medssl.errors import ConfigError, FolderError
from medssl.io.dicom.read import read_dicom_folder
from medssl.privacy.deidentify import DeidentifyConfig, write_one
from tests import canaries, phantoms

COUNT = 6
DCM2NIIX = Path(sys.executable).with_name("dcm2niix")  # of the package of that name
DCIODVFY = shutil.which("dciodvfy")


def leaks(folder):
    """Return every planted text in the bytes and names below ``folder``."""
    found = []
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes().lower() if path.is_file() else b""
        name = path.relative_to(folder).as_posix().lower()
        found += [
            (name, text)
            for text in canaries.everything()
            if text.lower().encode() in content or text.lower() in name
        ]
    return found


def rows(result):
    with (result.folder / "files.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_there_are_37_plants_and_a_raw_search_finds_each_in_the_source(source):
    assert len(canaries.PLANTED) == 37
    found = {text for _, text in leaks(source)}
    assert found == canaries.everything()


def test_nothing_planted_is_written_anywhere(source, clean):
    result, files = clean(source)
    assert result.summary["written"] == len(files) == COUNT
    private = result.folder / "private"
    assert {path.name for path in private.iterdir()} == {"config.yaml"}
    shutil.rmtree(private)  # holds the path of the source, for its owner only
    assert leaks(result.folder) == []


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


def test_the_same_key_gives_the_same_files_and_two_keys_share_nothing(source, clean):
    _, one = clean(source, out="one")
    _, same = clean(source, out="same")
    _, other = clean(source, out="other", key="key2")
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in same]
    assert [p.parts[-4:] for p in one] == [p.parts[-4:] for p in same]
    words = [
        {str(e.value) for p in paths for e in pydicom.dcmread(p).iterall() if e.VR in {"UI", "PN"}}
        for paths in (one, other)
    ]
    shared = (words[0] & words[1]) - {""}
    common = {word for word in shared if not word.startswith("1.2.840.10008.")}
    assert common == set()


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


def test_one_bad_file_stops_nothing_and_every_file_is_accounted_for(source, clean):
    folder = source / canaries.FOLDER
    (folder / "notes.txt").write_text("Quillfeather")
    whole = next(folder.glob("*.dcm")).read_bytes()
    (folder / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.dcm").touch()
    result, files = clean(source)
    table = rows(result)
    assert len(table) == result.summary["files"] == COUNT + 3
    counted = [result.summary[kind] for kind in ("written", "skipped", "quarantined")]
    assert sum(counted) == len(table)
    assert len(files) == COUNT
    assert all(bool(row["name"]) != bool(row["reason"]) for row in table)


def test_a_later_run_adds_what_is_new_and_removes_what_is_now_refused(source, clean):
    _, files = clean(source)
    before = [path.stat().st_mtime_ns for path in files]
    more = phantoms.affine_ras(origin=(0, 0, 500))
    phantoms.write_dicom(
        source / "more",
        phantoms.phantom(more),
        more,
        edit=lambda ds, _: setattr(ds, "BodyPartExamined", "LUNG"),
    )
    result, now = clean(source)
    assert result.summary["written"] == len(now) == COUNT + 5
    assert [path.stat().st_mtime_ns for path in files] == before
    canaries.write(source, edit=lambda ds, _: setattr(ds, "BurnedInAnnotation", "YES"))
    result, now = clean(source)
    assert result.summary["reason.burned_in_risk"] == COUNT
    assert len(now) == 5


def test_a_killed_run_goes_on_where_it_stopped(source, clean, monkeypatch):
    from medssl.privacy import deidentify as stage

    real, calls = stage.write_one, []

    def dies(rules, images, job):
        calls.append(job)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(rules, images, job)

    monkeypatch.setattr(stage, "write_one", dies)
    with pytest.raises(KeyboardInterrupt):
        clean(source)
    calls.clear()
    monkeypatch.setattr(stage, "write_one", lambda *a: calls.append(a) or real(*a))
    result, files = clean(source)
    assert len(calls) == COUNT - 3
    assert result.summary["written"] == len(files) == COUNT


def test_another_key_is_refused_in_the_same_folder(source, clean):
    clean(source)
    with pytest.raises(FolderError, match="another key"):
        clean(source, key="key2")


HEAD = {"BodyPartExamined": "HEAD"}


def head(folder, part="HEAD"):
    return canaries.write(folder, edit=lambda ds, _: setattr(ds, "BodyPartExamined", part))


@pytest.mark.parametrize(("part", "written"), [("HEAD", 0), ("NECK", 0), ("", 0), ("CHEST", COUNT)])
def test_what_may_show_a_face_is_refused(tmp_path, clean, part, written):
    head(tmp_path / "in", part)
    result, files = clean(tmp_path / "in")
    assert len(files) == written
    assert result.summary.get("reason.face_in_view", 0) == COUNT - written
    _, allowed = clean(tmp_path / "in", out="allowed", allow_faces=True)
    assert len(allowed) == COUNT


def test_an_upright_image_of_the_chest_that_reaches_the_chin_may_show_a_face(tmp_path, clean):
    """Coronal slices, 600 mm long."""
    affine = phantoms.affine_ras(degrees=(-90, 0, 0), spacing_mm=(1.0, 100.0, 3.0))
    phantoms.write_dicom(
        tmp_path / "in",
        phantoms.phantom(affine),
        affine,
        edit=lambda ds, _: setattr(ds, "BodyPartExamined", "CHEST"),
    )
    result, files = clean(tmp_path / "in")
    assert files == []
    assert result.summary["reason.face_in_view"] == 5


def dies_on_the_third(rules, images, job):
    if pydicom.dcmread(job[0].path, stop_before_pixels=True).InstanceNumber == 3:
        os._exit(17)
    return write_one(rules, images, job)


def test_a_file_that_kills_its_worker_is_refused_and_the_others_are_written(
    source, clean, monkeypatch
):
    from medssl.privacy import deidentify as stage

    monkeypatch.setattr(stage, "write_one", dies_on_the_third)
    result, files = clean(source, workers=2)
    assert result.summary["reason.decoder_crashed"] == result.summary["quarantined"] == 1
    assert len(files) == result.summary["written"] == COUNT - 1


DEFACE = """
import sys, pathlib, pydicom
given, made = map(pathlib.Path, sys.argv[1:])
for number, path in enumerate(sorted(given.iterdir())):
    ds = pydicom.dcmread(path)
    assert "Quillfeather" not in str(ds)
    pixels = ds.pixel_array.copy()
    pixels[:5] = {value}
    ds.PixelData = pixels.tobytes()
    ds.save_as(made / path.name)
"""


def deface_command(tmp_path, value):
    script = tmp_path / "deface.py"
    script.write_text(DEFACE.format(value=value))
    return f"{sys.executable} {script} {{input}} {{output}}"


def test_a_deface_command_takes_the_face_and_only_pixels_come_from_it(tmp_path, clean):
    head(tmp_path / "in")
    _, files = clean(tmp_path / "in", deface_command=deface_command(tmp_path, 24))
    assert len(files) == COUNT
    for path in files:
        ds = pydicom.dcmread(path)
        assert (ds.pixel_array[:5] == 24).all()
        assert ds.pixel_array[5:].std() > 0
        assert "113102" in [i.CodeValue for i in ds.DeidentificationMethodCodeSequence]
        assert ds.RecognizableVisualFeatures == "NO"


def test_a_deface_command_that_does_nothing_lets_nothing_out(tmp_path, clean):
    head(tmp_path / "in")
    for command in (deface_command(tmp_path, "pixels[:5]"), "true {input} {output}"):
        result, files = clean(tmp_path / "in", deface_command=command)
        assert files == []
        assert result.summary["reason.deface_failed"] == COUNT


def test_a_deface_command_without_places_is_refused():
    tree = {"sources": ["a"], "out": "b", "key_file": "c", "deface_command": "deface it"}
    with pytest.raises(ConfigError, match="input"):
        validate(DeidentifyConfig, tree, where="here")
