"""What becomes of the DICOM files of a folder, as ingest would see it."""

from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.read import DicomVolume, RejectedSlices, read_series
from medssl.io.limits import Limits


def outcomes(folder, limits=None):
    """Return volumes, and reason codes with the number of slices; files' names are their keys."""
    limits, pseudonymizer = limits or Limits(), Pseudonymizer.ephemeral()
    headers = [
        header
        for path in sorted(folder.iterdir())
        for header in read_headers(path, path.name, pseudonymizer, limits)
    ]
    found = list(read_series(headers, limits))
    volumes = [item for item in found if isinstance(item, DicomVolume)]
    refused = {i.error.code: len(i.slices) for i in found if isinstance(i, RejectedSlices)}
    return volumes, refused
