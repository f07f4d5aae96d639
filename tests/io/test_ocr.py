"""Text in pictures is found; the anatomy of real scans is not taken for text."""

import socket
import sys

import numpy as np
import pytest

from medssl.errors import InputError, RejectedFileError
from medssl.io import ocr
from medssl.io.dicom.read import read_dicom_folder
from medssl.io.nifti import read_nifti
from medssl.io.volume import Volume
from tests.lettering import body, drawn

pytest.importorskip("rapidocr", reason="needs medssl[ocr]")
pytest.importorskip("onnxruntime", reason="needs medssl[ocr]")

TEXTS = ["DOE^JANE", "12.03.1947", "MRN 7712045"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size", [10, 14, 20])
def test_text_is_found(text, size):
    assert ocr.text_shown(drawn(body(), text, size))


@pytest.mark.parametrize("shape_RC", [(160, 192), (512, 512), (16, 700), (15, 90), (1, 40)])
def test_a_picture_without_text_shows_none(shape_RC):
    assert not ocr.text_shown(body(shape_RC))


def test_a_side_marker_is_no_text_and_neither_is_nothing():
    assert not ocr.text_shown(drawn(body(), "R", 20))
    assert not ocr.text_shown(np.zeros((64, 64), np.float32))


def test_text_on_nothing_is_found():
    assert ocr.text_shown(drawn(np.zeros((300, 300), np.uint8), "DOE^JANE", 12, 200))


@pytest.mark.parametrize("index", [0, 4, 8])
def test_the_first_middle_and_last_slice_are_looked_at_upright(index):
    stack = [body(seed=k) for k in range(9)]
    stack[index] = drawn(stack[index], "DOE^JANE")
    array = np.stack([picture.T for picture in stack], axis=-1)
    lps = Volume(
        array_IJK=array, affine_ras=np.diag([-1.0, -1.0, 3.0, 1.0]), modality="CT", intensity="hu"
    )
    assert ocr.shows_text(lps, as_stored=True)
    assert ocr.shows_text(lps, as_stored=False)


def test_nothing_is_fetched_and_nothing_is_said(monkeypatch, capfd, caplog):
    def refuse(*_args, **_kwargs):
        raise AssertionError("it went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    ocr._reader.cache_clear()
    with caplog.at_level("DEBUG"):
        assert ocr.text_shown(drawn(body(), "DOE^JANE"))
        assert not ocr.text_shown(body())
    assert capfd.readouterr() == ("", "")
    assert "DOE" not in caplog.text


def test_without_the_packages_the_command_that_brings_them_is_told(monkeypatch):
    ocr.check_installed()
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    monkeypatch.setattr(ocr, "find_spec", lambda name: None if name == "rapidocr" else name)
    with pytest.raises(InputError, match=r"pip install 'medssl\[ocr\]'"):
        ocr.check_installed()


def test_other_models_than_the_known_are_not_silently_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr(ocr, "_models", lambda: tmp_path)
    with pytest.raises(InputError, match="rapidocr"):
        ocr.check_installed()


def real_scans(data):
    for path in sorted((data / "volumes").rglob("*.nii*")):
        try:
            yield path.name, read_nifti(path), False
        except RejectedFileError:
            continue
    for folder in sorted((data / "dicom-series").glob("*/")):
        for found in read_dicom_folder(folder):
            yield folder.name, found.volume, True


@pytest.mark.slow
def test_no_real_scan_is_taken_for_one_with_text(shared):
    scans = list(real_scans(shared / "data"))
    if not scans:
        pytest.skip("there are no scans in 'shared'")
    mistaken = [name for name, scan, stored in scans if ocr.shows_text(scan, as_stored=stored)]
    assert mistaken == []
