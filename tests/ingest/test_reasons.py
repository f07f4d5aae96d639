"""Every reason code, earned by files made for it; the run goes on and the counts add up."""

import pytest

from medssl.io.reasons import REASONS, reject
from tests import bad_files, phantoms

ARCHIVES = {
    "damaged_archive",
    "damaged_member",
    "encrypted_member",
    "unsafe_member",
    "duplicate_member",
    "nested_archive",
    "archive_too_large",
    "too_many_members",
}
"""In tests/io/sources/test_archive.py."""
SHOWN_ELSEWHERE = ARCHIVES | {
    "decoder_crashed",
    "incomplete_redelivery",
    "burned_in_text",
    "out_of_memory",
    "not_for_dicom",
}
"""In tests/ingest/test_isolation.py, test_redelivery.py and test_burned_in_text.py, and in
tests/io/test_untrusted.py, and in tests/io/dicom/test_segmentation_writer.py."""


@pytest.mark.parametrize(
    ("kind", "code", "build"), bad_files.CASES, ids=[f"{k}-{c}" for k, c, _ in bad_files.CASES]
)
def test_bad_files_are_refused_with_their_reason_and_good_ones_converted(
    kind, code, build, tmp_path, ingested
):
    build(tmp_path / "in" / "bad")
    affine = phantoms.affine_ras()
    good = phantoms.write_nifti(tmp_path / "in" / "good.nii", phantoms.phantom(affine), affine)
    result, files, catalog = ingested(
        tmp_path / "in",
        exclude=("*.bin",),
        min_slices=1 if code == "no_slice_thickness" else 4,
        irregular=bad_files.POLICIES.get(code, {}),
    )
    refused = files[files["reason_code"] == code]
    assert len(refused) >= 1, files["reason_code"].tolist()
    assert set(refused["outcome"]) == {"skipped" if REASONS[code].skipped else "quarantined"}
    assert all("{" not in text and len(text) > 20 for text in refused["reason"])
    assert "nifti" in set(catalog["source_format"])
    assert result.summary[f"reason.{code}"] == len(refused)
    assert good.is_file()


def test_no_reason_code_is_without_a_case():
    assert {code for _, code, _ in bad_files.CASES} == set(REASONS) - SHOWN_ELSEWHERE


def test_a_reason_knows_whether_it_is_merely_skipped():
    assert reject("localizer").skipped
    assert not reject("no_geometry", bad=1, total=2).skipped
    assert str(reject("no_geometry", bad=1, total=2)).startswith("1 of 2 slices do not say")
