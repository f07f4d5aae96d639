import pytest

from medssl.errors import InputError
from medssl.ingest.explain import explain
from medssl.ingest.ingest import ingest
from tests import bad_files, phantoms

AFFINE = phantoms.affine_ras()


def test_what_became_of_a_file(tmp_path, configure):
    good, *_ = phantoms.write_dicom(tmp_path / "in" / "good", phantoms.phantom(AFFINE), AFFINE)
    bad_files.moved([0, 3, 6, 12, 15])(tmp_path / "in" / "gap")
    (gap, *_) = (tmp_path / "in" / "gap").iterdir()
    config = configure(tmp_path / "in")
    ingest(config)
    text = explain(config.library, good, config.key_file)
    assert "converted" in text
    assert "CT of 7 x 6 x 5 voxels, 1.5 x 2 x 3 mm, in HU, made of 5 file(s)" in text
    text = explain(config.library, gap, config.key_file)
    assert "quarantined (missing_slices)" in text
    assert "1 slice(s) missing among 5" in text
    with pytest.raises(InputError, match="was not seen"):
        explain(config.library, tmp_path / "elsewhere", config.key_file)
