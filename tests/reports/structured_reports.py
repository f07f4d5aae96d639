"""DICOM structured reports for tests."""

from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian, generate_uid


def write_structured(path, study_uid, sections, *, physician="Kaluza^Bruno", **header):
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID = BasicTextSRStorage, generate_uid()
    report.StudyInstanceUID, report.SeriesInstanceUID = study_uid, generate_uid()
    report.Modality = "SR"
    report.PatientName, report.PatientID = "Testfall^Erna", "PAT-00815"
    report.ReferringPhysicianName = physician
    report.ContentDate, report.ContentTime = "20200102", "101500"
    for keyword, value in header.items():
        setattr(report, keyword, value)
    report.ValueType = "CONTAINER"
    report.ConceptNameCodeSequence = [coded("Radiology Report")]
    report.ContentSequence = [
        container(name, [text("Finding", words)]) for name, words in sections.items()
    ]
    report.ContentSequence.append(person("Person Observer Name", "Nebelung^Ute"))
    report.file_meta = Dataset()
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID
    report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.save_as(path, enforce_file_format=True)
    return path


def coded(meaning):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99TEST", meaning
    return code


def container(name, children):
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "CONTAINER"
    item.ConceptNameCodeSequence, item.ContentSequence = [coded(name)], children
    return item


def text(name, words):
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence, item.TextValue = [coded(name)], words
    return item


def person(name, who):
    item = Dataset()
    item.RelationshipType, item.ValueType = "HAS OBS CONTEXT", "PNAME"
    item.ConceptNameCodeSequence, item.PersonName = [coded(name)], who
    return item
