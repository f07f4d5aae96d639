"""Answers about whole scans, as a structured report and as JSON."""

import json

import pydicom

from medssl.inference.outputs.dicom_sr import DicomSr
from medssl.inference.outputs.json import Json
from tests.inference.outputs.test_nifti import predicted
from tests.io.dicom.segmentations import complaints, read, write_series


def told(tmp_path, **changes):
    write_series(tmp_path / "in")
    found = read(tmp_path / "in")
    return predicted(volume=found.volume, slices=found.slices, masks=None, **changes)


def test_answers_become_a_report_of_the_study(tmp_path):
    (path,) = DicomSr.Config().build().write(told(tmp_path, answers={"yes": 0.7}), tmp_path)
    assert path.name == "scan_sr.dcm"
    assert complaints(path) == []
    assert pydicom.dcmread(path).Modality == "SR"


def test_masks_are_no_report(tmp_path):
    assert DicomSr.Config().build().write(predicted(), tmp_path) == ()


def test_json_has_the_answers_and_the_volumes(tmp_path):
    (path,) = Json.Config().build().write(told(tmp_path, answers={"yes": 0.7}), tmp_path)
    assert json.loads(path.read_text())["answers"] == {"yes": 0.7}
    (path,) = Json.Config().build().write(predicted(), tmp_path)
    assert json.loads(path.read_text())["volumes_ml"] == predicted().volumes_ml
