import pytest
from pydicom.uid import EnhancedMRImageStorage

from medssl.errors import InputError
from medssl.ingest.explain import explain
from medssl.ingest.ingest import ingest
from medssl.library.outcomes import read_outcomes
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


def test_a_file_of_which_one_stack_was_refused_says_so(tmp_path, configure):
    slices = phantoms.dicom_slices(phantoms.phantom(AFFINE, (7, 6, 7)), AFFINE, modality="MR")
    for ds in slices[5:]:  # two frames far from the others: a stack that is too small
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, z + 300]
    (path,) = phantoms.save([phantoms.enhanced(slices, EnhancedMRImageStorage)], tmp_path / "in")
    config = configure(tmp_path / "in")
    summary = ingest(config).summary
    assert (summary["converted"], summary["volumes"]) == (1, 1)
    (row,) = read_outcomes(config.library).to_dict(orient="records")
    assert (row["outcome"], row["reason_code"]) == ("converted", "too_few_slices")
    assert row["volume_key"]
    assert "2 slice(s): too few" in (config.library / "quarantine.csv").read_text()
    text = explain(config.library, path, config.key_file)
    assert "MR of 7 x 6 x 5 voxels" in text
    assert "in part only (too_few_slices): 2 slice(s)" in text
