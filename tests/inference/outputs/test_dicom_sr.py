"""Answers about whole scans, as a structured report and as JSON."""

import json

import pydicom

from medssl.inference.outputs.dicom_sr import DicomSr
from medssl.inference.outputs.json import Json
from tests.inference.outputs.test_nifti import predicted
from tests.io.dicom.segmentations import complaints, read, write_series
from tests.io.dicom.test_report_writer import evaluations, measurements


def told(tmp_path, **changes):
    write_series(tmp_path / "in")
    found = read(tmp_path / "in")
    return predicted(volume=found.volume, slices=found.slices, masks=None, **changes)


def test_answers_become_a_report_of_the_study(tmp_path):
    task = {"name": "classification", "columns": ["effusion"]}
    about = predicted().description.model_copy(update={"task": task})
    one = told(tmp_path, answers={"no": 0.3, "yes": 0.7}, description=about)
    (path,) = DicomSr.Config().build().write(one, tmp_path)
    assert path.name == "scan_sr.dcm"
    assert complaints(path) == []
    report = pydicom.dcmread(path)
    assert report.Modality == "SR"
    assert dict(measurements(report)) == {"no": 0.3, "yes": 0.7}
    assert dict(evaluations(report)) == {"effusion": "yes"}


def test_findings_are_there_or_not_and_numbers_come_down_to_nothing():
    task = {"name": "classification", "columns": ["cyst", "stone"]}
    about = predicted().description.model_copy(update={"task": task})
    several = predicted(masks=None, answers={"cyst": 0.2, "stone": 0.8}, description=about)
    assert several.conclusions == {"cyst": False, "stone": True}
    about = about.model_copy(update={"task": {"name": "regression", "columns": ["size"]}})
    assert predicted(masks=None, answers={"size": 3.5}, description=about).conclusions == {}
    assert predicted().conclusions == {}


def test_masks_are_no_report(tmp_path):
    assert DicomSr.Config().build().write(predicted(), tmp_path) == ()


def test_json_has_the_answers_and_the_volumes(tmp_path):
    (path,) = Json.Config().build().write(told(tmp_path, answers={"yes": 0.7}), tmp_path)
    assert json.loads(path.read_text())["answers"] == {"yes": 0.7}
    (path,) = Json.Config().build().write(predicted(), tmp_path)
    assert json.loads(path.read_text())["volumes_ml"] == predicted().volumes_ml
