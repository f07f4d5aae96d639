"""DICOM structured reports: their content tree as a text with headers, and whom they name."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom import DataElement, Dataset, dcmread

from medssl.errors import RejectedFileError
from medssl.io.dicom.stream import open_dicom
from medssl.io.limits import Limits
from medssl.io.untrusted import untrusted

_MOST_BYTES: Final = 10_000_000
_PATIENT_GROUP: Final = 0x0010
_WORDS: Final = frozenset({"LO", "SH", "LT", "ST", "DA"})
_OF_INSTITUTIONS: Final = """
AccessionNumber InstitutionName InstitutionAddress InstitutionalDepartmentName StudyID StationName
VerifyingOrganization FillerOrderNumberImagingServiceRequest PlacerOrderNumberImagingServiceRequest
"""
_IDENTIFYING: Final = frozenset(_OF_INSTITUTIONS.split())
_NOT_IDENTIFYING: Final = frozenset({"PatientSex", "PatientSize", "PatientWeight", "PatientAge"})
_DEEPEST: Final = 32


@dataclass(frozen=True)
class StructuredReport:
    """What one DICOM SR says."""

    study_uid: str = field(repr=False)
    text: str = field(repr=False)
    known: tuple[str, ...] = field(repr=False)
    """Names, numbers and institutions of its header and of its content."""
    date: str = field(repr=False)
    """When it was written, as text that sorts."""


def read_structured(path: Path) -> StructuredReport:
    """Return what a DICOM SR says.

    Containers become headers of the text, and so do the names of texts outside of any.

    Raises:
        RejectedFileError: It is damaged, or DICOM but no report.
    """
    with untrusted("damaged_header"), open_dicom(path, Limits(_MOST_BYTES)) as stream:
        dataset = dcmread(stream, stop_before_pixels=True)
        lines = list(_lines(dataset, 0)) if "ContentSequence" in dataset else None
        uid = str(dataset.get("StudyInstanceUID", ""))
        known = tuple(dict.fromkeys(_known(dataset, 0)))
        date = f"{dataset.get('ContentDate', '')}{dataset.get('ContentTime', '')}"
    if lines is None:
        raise RejectedFileError("no_report", "a DICOM file without the content of a report")
    return StructuredReport(uid.strip(), "\n".join(lines).strip(), known, date)


def _lines(item: Dataset, depth: int) -> Iterator[str]:
    """Yield the lines of an item's content, the deepest levels left out."""
    for child in item.get("ContentSequence", []) if depth < _DEEPEST else ():
        kind, name = str(child.get("ValueType", "")), _meaning(child, "ConceptNameCodeSequence")
        if kind == "CONTAINER":
            yield from ("", f"{name}:") if name else ("",)
        elif kind == "TEXT":
            yield from (f"{name}:",) if name and depth == 0 else ()  # else its container says
            yield str(child.get("TextValue", "")).replace("\r\n", "\n").replace("\r", "\n")
        elif kind == "CODE":
            yield f"{name}: {_meaning(child, 'ConceptCodeSequence')}."
        elif kind == "NUM":
            yield f"{name}: {_measured(child)}."
        if kind != "PNAME":
            yield from _lines(child, depth + 1)


def _meaning(item: Dataset, sequence: str) -> str:
    codes = item.get(sequence) or [Dataset()]
    return str(codes[0].get("CodeMeaning", "")).strip()


def _measured(item: Dataset) -> str:
    values = item.get("MeasuredValueSequence") or [Dataset()]
    unit = (values[0].get("MeasurementUnitsCodeSequence") or [Dataset()])[0].get("CodeValue", "")
    return f"{values[0].get('NumericValue', '')} {unit}".strip()


def _known(dataset: Dataset, depth: int) -> Iterator[str]:
    """Yield every name of a person at any depth, and what else of the header points to somebody."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value if depth < _DEEPEST else ():
                yield from _known(item, depth + 1)
        elif _points_to_somebody(element):
            values = element.value if element.VM > 1 else [element.value]
            yield from (text for value in values if (text := str(value or "").strip()))


def _points_to_somebody(element: DataElement) -> bool:
    if element.VR == "PN" or element.keyword in _IDENTIFYING:
        return True
    of_patient = element.tag.group == _PATIENT_GROUP and element.keyword not in _NOT_IDENTIFYING
    return of_patient and element.VR in _WORDS
