"""What a header may tell, and what it may cost to read."""

import dataclasses
import struct
import tracemalloc
import zlib

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.headers import read_headers
from medssl.io.limits import Limits
from tests import phantoms

AFFINE = phantoms.affine_ras()
KEY = Pseudonymizer.ephemeral()


@pytest.fixture
def series(tmp_path):
    def write(edit=None):
        return phantoms.write_dicom(tmp_path / "in", phantoms.phantom(AFFINE), AFFINE, edit=edit)

    return write


def read(path, limits=None):
    return read_headers(path, "file", KEY, limits or Limits())


def test_no_identifier_is_left_in_a_header(series):
    (path, *_) = series()
    ds = dcmread(path)
    (header,) = read(path)
    text = repr({k: v for k, v in dataclasses.asdict(header).items() if k != "path"})
    for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert str(ds[keyword].value) not in text
    assert "Phantom" not in text


def test_one_patient_has_one_key_and_another_hospital_another(series):
    paths = series(lambda ds, k: setattr(ds, "IssuerOfPatientID", "OTHER" if k == 4 else ""))
    patients = [read(path)[0].keys.patient for path in paths]
    assert sorted(map(patients.count, set(patients))) == [1, 4]


def test_without_a_patient_the_study_stands_for_one(series):
    headers = [read(path)[0] for path in series(lambda ds, _: delattr(ds, "PatientID"))]
    assert len({header.keys.patient for header in headers}) == 1
    assert not any(header.keys.patient_known for header in headers)


def test_a_deflated_bomb_is_refused_before_it_goes_off(series, tmp_path):
    (path, *_) = series(
        lambda ds, _: setattr(ds.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian)
    )
    content = path.read_bytes()
    start = 144 + struct.unpack_from("<L", content, 140)[0]
    plain = zlib.decompress(content[start:], -15)
    # a private element of 400 MB of zeros, ahead of the pixels
    head = struct.pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, 400_000_000)
    engine = zlib.compressobj(9, wbits=-15)
    bomb = engine.compress(head) + b"".join(engine.compress(bytes(10**6)) for _ in range(400))
    bomb += engine.compress(plain) + engine.flush()
    path.write_bytes(content[:start] + bomb)
    assert len(bomb) < 10**6
    tracemalloc.start()
    with pytest.raises(RejectedFileError) as caught:
        read(path, Limits(volume_bytes=50_000_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == "decompression_bomb"
    assert peak < 200_000_000


def test_a_header_that_boasts_costs_no_memory(series):
    (path, *_) = series(lambda ds, _: ds.update({"Rows": 65535, "Columns": 65535}))
    tracemalloc.start()
    (header,) = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert header.defect == "pixel_length_mismatch"
    assert peak < 20_000_000


@pytest.mark.parametrize(
    "content", [b"\x08\x00" + b"no dicom at all" * 50, b"\x02\x00", bytes(400)]
)
def test_bytes_that_only_start_like_dicom_are_none(content, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(RejectedFileError) as caught:
        read(path)
    assert caught.value.code in {"not_dicom", "damaged_header"}
    assert "no dicom at all" not in str(caught.value)
