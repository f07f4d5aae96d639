"""The fast way to read a header says what pydicom says, or declines."""

import io
import struct
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom import Dataset, Sequence
from pydicom.uid import ImplicitVRLittleEndian

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom import headers
from medssl.io.dicom.elements import find_elements, little_endian
from medssl.io.limits import Limits
from tests import fuzz, phantoms

KEY, LIMITS = Pseudonymizer.ephemeral(), Limits(least_slices=1)
SHARED = Path(__file__).parents[4] / "shared" / "data"
WANTED = frozenset(map(little_endian, ["Rows", "PatientID"]))


def outcome(path):
    try:
        return headers.read_headers(path, "k", KEY, LIMITS)
    except RejectedFileError as error:
        return error.code


def fast_and_slow(path, monkeypatch):
    """Read ``path`` both ways; a field that only the fast way fills is left out."""
    fast = outcome(path)
    with monkeypatch.context() as patched:
        patched.setattr(headers, "find_elements", lambda *_: None)
        slow = outcome(path)
    if isinstance(fast, list):
        fast = [headers.replace(header, pixels_start=None) for header in fast]
    return fast, slow


@pytest.fixture(autouse=True)
def _no_memory():
    headers._shared.cache_clear()


def test_real_files(monkeypatch):
    folders = [SHARED / "dicom-cases", SHARED / "dicom-series"]
    files = [p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file()]
    if not files:
        pytest.skip("the shared scans are not on this machine")
    for path in files[::7]:
        fast, slow = fast_and_slow(path, monkeypatch)
        assert fast == slow, path


def test_files_that_come_with_pydicom(monkeypatch):
    folder = Path(pydicom.data.__file__).parent / "test_files"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) > 100
    for path in files:
        fast, slow = fast_and_slow(path, monkeypatch)
        assert fast == slow, path


@pytest.mark.parametrize("seed", range(2))
def test_damaged_files(seed, tmp_path, monkeypatch):
    """Where both read a file, they read the same. Damage in what the fast way walks over may go
    unseen by it, or be seen by it alone: then one of them refuses the file.
    """
    both = 0
    for path in fuzz.write(tmp_path / "files", 300, seed=seed):
        if path.name.endswith(".dcm"):
            fast, slow = fast_and_slow(path, monkeypatch)
            if isinstance(fast, list) and isinstance(slow, list):
                assert fast == slow, path.name
                both += 1
    assert both > 50


def _slices(edit=None):
    affine = phantoms.affine_ras()
    return phantoms.dicom_slices(phantoms.phantom(affine), affine, edit=edit)


POSITIONS = ["1\\2\\3", "+1.5e2\\ -.5\\-0", "1.\\2E-1 \\ 003", "1\\2", "", "1\\\\3", "1\\2\\nan"]
NUMBERS = ["7", " +012 ", "-3", "1.0", "1.5", "1e3", "7\\8", "", "x"]
INSTANCES = ["1.2.3", "1.2.3\0", "1.2.3 ", " 1.2.3", "1.2\\3.4", "A.1", "1..2"]


@pytest.mark.parametrize(
    ("tag", "vr", "values"),
    [
        (0x00200032, "DS", POSITIONS),
        (0x00200013, "IS", NUMBERS),
        (0x00080018, "UI", INSTANCES),
        (0x00200032, "LO", POSITIONS[:2]),
        (0x00200013, "UN", NUMBERS[:2]),
    ],
)
def test_what_differs_from_slice_to_slice_is_read_however_it_is_spelt(
    tag, vr, values, tmp_path, monkeypatch
):
    for number, value in enumerate(values):
        (path,) = phantoms.save(_slices()[:1], tmp_path / str(number))
        content, head = path.read_bytes(), struct.pack("<HH", tag >> 16, tag & 0xFFFF)
        start = content.index(head)
        stop = start + 8 + struct.unpack_from("<H", content, start + 6)[0]
        raw = value.encode() + b" " * (len(value) % 2)
        size = struct.pack("<HL", 0, len(raw)) if vr == "UN" else struct.pack("<H", len(raw))
        path.write_bytes(content[:start] + head + vr.encode() + size + raw + content[stop:])
        fast, slow = fast_and_slow(path, monkeypatch)
        assert fast == slow, value


def test_sequences_are_walked(tmp_path):
    """Of defined and of open length, nested, in both encodings."""

    def nest(ds, _):
        inner, outer = Dataset(), Dataset()
        inner.CodeValue, outer.CodeMeaning = "1", "m"
        outer.ConceptNameCodeSequence = Sequence([inner, inner])
        for element in ("ReferencedStudySequence", "RequestAttributesSequence"):
            setattr(ds, element, Sequence([outer, Dataset(), outer]))
        ds["ReferencedStudySequence"].is_undefined_length = True
        for item in ds.ReferencedStudySequence:
            item.is_undefined_length_sequence_item = True

    for number, syntax in enumerate([None, ImplicitVRLittleEndian]):
        slices = _slices(edit=nest)
        if syntax:
            slices[0].file_meta.TransferSyntaxUID = syntax
        (path,) = phantoms.save(slices[:1], tmp_path / str(number))
        with path.open("rb") as stream:
            found = find_elements(stream, WANTED)
        assert found is not None
        assert found.values[little_endian("Rows")][1] == np.uint16(6).tobytes()
        content = path.read_bytes()
        assert content[found.pixels_start :] == slices[0].PixelData
        assert found.pixels_length == len(slices[0].PixelData)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[132:],  # no preamble
        lambda content: content[:300],  # cut in the header
        lambda content: content.replace(b"P-1", "P\u00e9".encode()),  # beyond ASCII
        lambda content: content.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00ZZ"),  # no such VR
    ],
)
def test_the_unusual_is_declined(change, tmp_path):
    (path,) = phantoms.save(_slices()[:1], tmp_path)
    content = change(path.read_bytes())
    assert find_elements(io.BytesIO(content), WANTED) is None
