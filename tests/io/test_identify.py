import gzip

import pytest

from medssl.errors import RejectedFileError
from medssl.io.identify import identify
from tests import bad_files, phantoms

AFFINE = phantoms.affine_ras()


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii", "scan.dcm", "scan"])
def test_content_counts_and_names_do_not(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(gzip.compress(bad_files.nifti_bytes()))
    assert identify(path) == "nifti"
    path.write_bytes(bad_files.nifti_bytes())
    assert identify(path) == "nifti"
    (dicom, *_) = phantoms.write_dicom(tmp_path / "dicom", phantoms.phantom(AFFINE), AFFINE)
    dicom.rename(path)
    if not name.startswith("scan.nii"):
        assert identify(path) == "dicom"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        bytes(600),
        gzip.compress(b"text", mtime=0),
        b"\x1f\x8b broken",
        b"\xff\xd8\xff",
    ],
)
def test_anything_else_is_skipped_unless_it_claims_to_be_nifti(content, tmp_path):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(RejectedFileError) as caught:
        identify(tmp_path / "x.bin")
    assert (caught.value.code, caught.value.skipped) == ("not_dicom", True)
    (tmp_path / "x.nii.gz").write_bytes(content)
    with pytest.raises(RejectedFileError) as caught:
        identify(tmp_path / "x.nii.gz")
    assert (caught.value.code, caught.value.skipped) == ("damaged_header", False)


def test_what_is_no_file_cannot_be_read(tmp_path):
    with pytest.raises(RejectedFileError) as caught:
        identify(tmp_path)
    assert caught.value.code == "unreadable_file"
