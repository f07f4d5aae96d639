"""What objects derived from a series share: its headers, and who made them.

A derived object goes back beside the study it belongs to, so it carries the header of that study
as it stands, identifiers included. They are copied from file to file and shown to nobody.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom import Dataset
from pydicom.uid import generate_uid

from medssl import __version__
from medssl.errors import RejectedFileError
from medssl.io.dicom.slices import SliceHeader, paths_of
from medssl.io.untrusted import untrusted
from medssl.runs.folder import atomic_path

MAKER: Final = "medssl"
_MAY_BE_EMPTY: Final = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""Of type 2: they must be there, also where nothing is known (PS3.3 C.7.1.1, C.7.2.1)."""
_UTF_8: Final = "ISO_IR 192"
_SERIES_NUMBERS_ABOVE: Final = 1000
_MOST_SERIES_NUMBER: Final = 2**31 - 1


def source_headers(slices: Sequence[SliceHeader]) -> list[Dataset]:
    """Return the headers of the files that ``slices`` are from, each once, in their order.

    Raises:
        RejectedFileError: One cannot be read, or does not say which study it belongs to.
    """
    if not slices:
        raise RejectedFileError("no_dicom", "DICOM can be written of DICOM inputs only")
    headers: list[Dataset] = []
    with untrusted("damaged_header"):
        for path in paths_of(slices):
            header = pydicom.dcmread(path, stop_before_pixels=True)
            # What is derived has names of the model's beside the patient's, in one character set.
            header.decode()
            header.SpecificCharacterSet = _UTF_8
            for keyword in _MAY_BE_EMPTY:
                if keyword not in header:
                    setattr(header, keyword, "")
            headers.append(header)
    needed = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
    missing = [name for name in needed if any(not header.get(name) for header in headers)]
    if missing:
        raise RejectedFileError(
            "incomplete_header",
            f"its header lacks {', '.join(missing)}, so nothing can refer to it",
        )
    return headers


def series_of(headers: Sequence[Dataset]) -> dict[str, Any]:
    """Return the arguments of a new series beside that of ``headers``, and of its one instance."""
    number = int(headers[0].get("SeriesNumber") or 0)
    return {
        "series_instance_uid": generate_uid(prefix=None),
        "series_number": min(number + _SERIES_NUMBERS_ABOVE, _MOST_SERIES_NUMBER),
        "sop_instance_uid": generate_uid(prefix=None),
        "instance_number": 1,
        "manufacturer": MAKER,
    }


def write_object(derived: Dataset, path: Path) -> None:
    """Write a derived object, whole or not at all."""
    with atomic_path(path) as part:
        derived.save_as(part, enforce_file_format=True)


def made_by() -> str:
    """Return which version of this package writes, at most 64 characters."""
    return __version__[:64]
