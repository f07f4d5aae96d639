"""Which series of a picture archive are wanted, in DICOM's own words."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator
from pydicom.datadict import tag_for_keyword

STUDY_COUNT, SERIES_COUNT = "NumberOfStudyRelatedSeries", "NumberOfSeriesRelatedInstances"

_OF_SERIES = frozenset(
    {
        "BodyPartExamined",
        "InstitutionName",
        "Laterality",
        "Manufacturer",
        "ManufacturerModelName",
        "Modality",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime",
        "PerformedStationName",
        "ProtocolName",
        "SeriesDate",
        "SeriesDescription",
        "SeriesInstanceUID",
        "SeriesNumber",
        "SeriesTime",
        "StationName",
    }
)
"""What archives match of a series; every other keyword is asked of its study."""


def _known(query: dict[str, str]) -> dict[str, str]:
    for keyword in query:
        if tag_for_keyword(keyword) is None:
            raise ValueError(
                f"{keyword} is no DICOM keyword; write them as in Modality, StudyDate, "
                "BodyPartExamined"
            )
    return query


Query = Annotated[dict[str, str], AfterValidator(_known)]
"""DICOM keyword -> what it must match; ``*``, ``?`` and date ranges (20240101-) work as there."""


def of_study(query: Mapping[str, str]) -> dict[str, str]:
    """Return the part of ``query`` that is asked of studies."""
    return {keyword: value for keyword, value in query.items() if keyword not in _OF_SERIES}


def of_series(query: Mapping[str, str]) -> dict[str, str]:
    """Return the part of ``query`` that is asked of the series of a study."""
    return {keyword: value for keyword, value in query.items() if keyword in _OF_SERIES}
