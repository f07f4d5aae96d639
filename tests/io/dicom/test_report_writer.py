"""Answers about a scan as a structured report that others can read."""

import pydicom
import pytest

from medssl.errors import RejectedFileError
from medssl.io.dicom.derived import write_object
from medssl.io.dicom.report_writer import report_object
from medssl.io.dicom.structure_codes import CodeConfig
from tests.io.dicom.segmentations import complaints, read, write_series

ANSWERS = {"pleural effusion": 0.875, "volume of the spleen": 212.5}


def measurements(item):
    """Yield (name, value) of every number below ``item``."""
    if item.get("ValueType") == "NUM":
        value = item.MeasuredValueSequence[0].NumericValue
        yield item.ConceptNameCodeSequence[0].CodeMeaning, float(value)
    for child in item.get("ContentSequence", []):
        yield from measurements(child)


def test_every_answer_is_a_measurement_of_the_study(tmp_path):
    paths = write_series(tmp_path / "in")
    found = read(tmp_path / "in")
    derived = report_object(found.slices, ANSWERS, modality="CT", model="a model")
    write_object(derived, tmp_path / "sr.dcm")
    assert complaints(tmp_path / "sr.dcm") == []
    report = pydicom.dcmread(tmp_path / "sr.dcm")
    assert dict(measurements(report)) == ANSWERS
    assert report.StudyInstanceUID == pydicom.dcmread(paths[0]).StudyInstanceUID
    assert report.CompletionFlag == "COMPLETE"
    assert report.VerificationFlag == "UNVERIFIED"
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = evidence.ReferencedSeriesSequence
    assert len(series.ReferencedSOPSequence) == len(paths)


def evaluations(item):
    """Yield (name, value) of every coded statement below ``item`` that has a name of its own."""
    for child in item.get("ContentSequence", []):
        if child.ValueType == "CODE" and child.RelationshipType == "CONTAINS":
            name, value = child.ConceptNameCodeSequence[0], child.ConceptCodeSequence[0]
            yield name.CodeMeaning, value.CodeMeaning
        yield from evaluations(child)


def test_conclusions_are_qualitative_evaluations(tmp_path):
    write_series(tmp_path / "in")
    found = read(tmp_path / "in")
    said = {"finding": "yes", "pleural effusion": True, "a very rare finding of old age": False}
    given = {"finding": CodeConfig(value="404684003", meaning="Clinical finding")}
    derived = report_object(
        found.slices, ANSWERS, modality="CT", model="m", conclusions=said, codes_of=given
    )
    write_object(derived, tmp_path / "sr.dcm")
    assert complaints(tmp_path / "sr.dcm") == []
    assert dict(evaluations(pydicom.dcmread(tmp_path / "sr.dcm"))) == {
        "Clinical finding": "yes",
        "pleural effusion": "Present",
        "a very rare finding of old age": "Absent",
    }
    assert dict(measurements(derived)) == ANSWERS


def test_codes_may_be_given(tmp_path):
    write_series(tmp_path / "in")
    found = read(tmp_path / "in")
    given = {"pleural effusion": CodeConfig(value="60046008", meaning="Pleural effusion")}
    derived = report_object(found.slices, ANSWERS, modality="MR", model="x", codes_of=given)
    assert dict(measurements(derived)).keys() == {"Pleural effusion", "volume of the spleen"}


def test_what_is_no_dicom_has_no_study():
    with pytest.raises(RejectedFileError, match="of DICOM inputs only"):
        report_object((), ANSWERS, modality="CT", model="x")


def test_an_answer_that_is_no_number_is_told(tmp_path):
    write_series(tmp_path / "in")
    found = read(tmp_path / "in")
    with pytest.raises(RejectedFileError, match="cannot be written as DICOM"):
        report_object(found.slices, {"yes": float("nan")}, modality="CT", model="x")
