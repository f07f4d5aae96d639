"""However a file is damaged, reading it ends in a volume or in a reason, and in nothing else."""

import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEG2000Lossless, RLELossless

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.read import read_series
from medssl.io.identify import identify
from medssl.io.limits import Limits
from medssl.io.nifti import read_nifti
from tests import bad_files, phantoms

AFFINE = phantoms.affine_ras()
LIMITS = Limits(volume_bytes=2**24, least_slices=2)
KEY = Pseudonymizer.ephemeral()

flips = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6)
cuts = st.floats(0, 1)
repeatable = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def damaged(content, flips, cut):
    content = bytearray(content)
    for place, value in flips:
        content[int(place * (len(content) - 1))] = value
    return bytes(content[: round(cut * len(content))] if cut < 0.9 else content)


def read(*paths):
    """Read like ingest does; anything but a rejection is a bug."""
    headers = []
    for path in paths:
        try:
            if identify(path) == "nifti":
                return [read_nifti(path, "CT", LIMITS)]
            headers += read_headers(path, path.name, KEY, LIMITS)
        except RejectedFileError:
            continue
    return [*read_series(headers, LIMITS)] if headers else []


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless], ids=str)
@given(flips=flips, cut=cuts)
@repeatable
def test_damaged_dicom(syntax, flips, cut, tmp_path):
    if not (tmp_path / "one").exists():
        slices = phantoms.dicom_slices(phantoms.phantom(AFFINE, (40, 36, 2)), AFFINE)
        if syntax:
            for ds in slices:
                ds.compress(syntax, generate_instance_uid=False)
        phantoms.save(slices, tmp_path / "one")
        assert len(read(*(tmp_path / "one").iterdir())) == 1
    first, other = sorted((tmp_path / "one").iterdir())
    path = tmp_path / "damaged"
    path.write_bytes(damaged(first.read_bytes(), flips, cut))
    read(path, other)


@pytest.mark.parametrize("packed", [False, True])
@given(flips=flips, cut=cuts)
@repeatable
def test_damaged_nifti(packed, flips, cut, tmp_path):
    content = bad_files.nifti_bytes()
    content = gzip.compress(content, mtime=0) if packed else content
    path = tmp_path / "v.nii"
    path.write_bytes(damaged(content, flips, cut))
    read(path)


@given(flips=flips)
@repeatable
def test_damaged_nifti_headers(flips, tmp_path):
    content = bad_files.nifti_bytes()
    path = tmp_path / "v.nii"
    path.write_bytes(damaged(content[:348], flips, 1.0) + content[348:])
    read(path)
