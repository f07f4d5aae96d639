import pytest
from pydicom import Dataset, dcmread

from medssl.errors import RejectedFileError
from medssl.reports.sections import Headers
from medssl.reports.structured import read_structured
from tests.reports.structured_reports import coded, write_structured


def test_containers_become_sections_and_everybody_named_is_known(tmp_path):
    says = {"Findings": "Emphysema.\r\nNo mass.", "Impression": "Emphysema."}
    path = write_structured(tmp_path / "a.dcm", "1.2.3", says, InstitutionName="Wexham Park")
    report = read_structured(path)
    assert report.study_uid == "1.2.3"
    assert report.date == "20200102101500"
    names = [each.name for each in Headers.read().sections(report.text)]
    assert names == ["findings", "impression"]
    known = {"Testfall^Erna", "PAT-00815", "Kaluza^Bruno", "Nebelung^Ute", "Wexham Park"}
    assert known <= set(report.known)
    assert "Nebelung" not in report.text
    assert "Nebelung" not in repr(report)


def test_codes_and_numbers_are_lines(tmp_path):
    path = write_structured(tmp_path / "a.dcm", "1.2.3", {"Findings": "Emphysema."})
    dataset = dcmread(path)
    code, number = dataset.ContentSequence[0].ContentSequence[0], Dataset()
    code.ValueType, code.ConceptCodeSequence = "CODE", [coded("Emphysema")]
    number.ValueType, number.ConceptNameCodeSequence = "NUM", [coded("Diameter")]
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = "4.5", [coded("mm")]
    measured.MeasurementUnitsCodeSequence[0].CodeValue = "mm"
    number.MeasuredValueSequence = [measured]
    dataset.ContentSequence[0].ContentSequence.append(number)
    dataset.save_as(path)
    text = read_structured(path).text
    assert "Finding: Emphysema." in text
    assert "Diameter: 4.5 mm." in text


def test_what_is_no_report_or_broken_is_refused(tmp_path):
    path = write_structured(tmp_path / "a.dcm", "1.2.3", {"Findings": "Emphysema."})
    dataset = dcmread(path)
    del dataset.ContentSequence
    dataset.save_as(path)
    with pytest.raises(RejectedFileError, match="without the content of a report"):
        read_structured(path)
    path.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    with pytest.raises(RejectedFileError):
        read_structured(path)
