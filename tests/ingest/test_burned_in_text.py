"""``ocr: true`` quarantines scans that show text, in the files of a library made before too."""

import sys

import numpy as np
import pytest

from medssl.errors import InputError
from medssl.io import ocr
from tests import phantoms
from tests.lettering import body, drawn

pytest.importorskip("rapidocr", reason="needs medssl[ocr]")
pytest.importorskip("onnxruntime", reason="needs medssl[ocr]")


@pytest.fixture
def source(tmp_path):
    """A CT whose last slice shows a name, one without, and a NIfTI file with and without."""
    affine = phantoms.affine_ras(spacing_mm=(1.0, 1.0, 2.0))
    clean = np.stack([body(seed=k).T for k in range(5)], axis=-1)
    named = clean.copy()
    named[..., 4] = drawn(clean[..., 4].T, "DOE^JANE").T
    for name, voxels in (("clean", clean), ("named", named)):
        phantoms.write_dicom(tmp_path / "in" / name, voxels, affine)
        phantoms.write_nifti(tmp_path / "in" / f"{name}.nii", voxels, affine)
    return tmp_path / "in"


def test_scans_that_show_text_are_quarantined_when_asked_for(source, ingested):
    result, _, _ = ingested(source)
    assert result.summary["volumes"] == 4
    result, files, catalog = ingested(source, ocr=True)
    assert result.summary["volumes"] == len(catalog) == 2
    refused = files[files["reason_code"] == "burned_in_text"]
    assert set(refused["outcome"]) == {"quarantined"}
    assert sorted(refused["source_format"]) == ["dicom"] * 5 + ["nifti"]
    assert not refused["reason"].str.contains("DOE").any()
    result, _, _ = ingested(source)
    assert result.summary["volumes"] == 4


def test_without_the_packages_nothing_is_begun(source, configure, ingested, monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    monkeypatch.setattr(ocr, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'medssl\[ocr\]'"):
        ingested(source, ocr=True)
    assert not configure(source).library.exists()
