"""Of several series the right one is chosen, from headers alone, or it is asked for."""

import pytest

from medssl.errors import RejectedFileError
from medssl.inference.series import Wanted, choose, same_region
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.headers import read_headers
from medssl.io.limits import Limits
from tests.inference.studies import new_study, write_series

CT = Wanted(modality="CT")


def headers(folder):
    pseudonymizer = Pseudonymizer.ephemeral()
    return [
        header
        for path in sorted(path for path in folder.rglob("*") if path.is_file())
        for header in read_headers(path, str(path), pseudonymizer, Limits())
    ]


def chosen(folder, wanted=CT):
    """Return the folder names of the chosen series, and the codes of the others."""
    found = list(choose(headers(folder), wanted))
    names = [one[0].path.parent.name for one in found if not isinstance(one, RejectedFileError)]
    return names, [one.code for one in found if isinstance(one, RejectedFileError)]


def refusal(folder, wanted=CT):
    (error,) = (x for x in choose(headers(folder), wanted) if isinstance(x, RejectedFileError))
    return error


@pytest.fixture
def study():
    return new_study()


def test_the_only_one_is_the_right_one(tmp_path, study):
    write_series(tmp_path / "a", study)
    assert chosen(tmp_path) == (["a"], [])


def test_series_of_another_modality_are_left_out(tmp_path, study):
    write_series(tmp_path / "a", study, modality="MR")
    write_series(tmp_path / "b", study)
    assert chosen(tmp_path) == (["b"], ["other_modality"])
    assert chosen(tmp_path, Wanted(modality="MR")) == (["a"], ["other_modality"])
    names, codes = chosen(tmp_path, Wanted(modality="CT", any_modality=True))
    assert (names, codes) == ([], ["several_series"])


def test_series_of_another_part_of_the_body_are_left_out(tmp_path, study):
    write_series(tmp_path / "a", study, BodyPartExamined="HEAD")
    write_series(tmp_path / "b", study, BodyPartExamined="CHEST")
    assert chosen(tmp_path, Wanted(modality="CT", body_part="chest")) == (
        ["b"],
        ["other_body_part"],
    )
    assert chosen(tmp_path, Wanted(modality="CT", body_part="head")) == (["a"], ["other_body_part"])


def test_a_stated_part_counts_more_than_none(tmp_path, study):
    write_series(tmp_path / "a", study)
    write_series(tmp_path / "b", study, BodyPartExamined="CHEST")
    assert chosen(tmp_path, Wanted(modality="CT", body_part="chest")) == (["b"], ["other_series"])


def test_too_few_slices_are_no_volume(tmp_path, study):
    write_series(tmp_path / "a", study, shape=(8, 8, 2))
    write_series(tmp_path / "b", study)
    assert chosen(tmp_path) == (["b"], ["too_few_slices"])


def test_what_was_scanned_counts_more_than_what_was_derived_from_it(tmp_path, study):
    write_series(tmp_path / "a", study, ImageType=["DERIVED", "SECONDARY", "MPR"])
    assert chosen(tmp_path) == (["a"], [])
    write_series(tmp_path / "b", study)
    assert chosen(tmp_path) == (["b"], ["other_series"])


def test_several_that_fit_are_asked_for_in_words_without_identifiers(tmp_path, study):
    secret = {"SeriesDescription": "Quillfeather thin", "PatientName": "Quillfeather^Ida"}
    write_series(tmp_path / "a", study, ConvolutionKernel="B30f", **secret)
    write_series(tmp_path / "b", study, ConvolutionKernel="B70f", BodyPartExamined="CHEST")
    error = refusal(tmp_path)
    assert (error.code, error.skipped) == ("several_series", False)
    assert "2 series of the study fit" in error.problem
    assert "1: CT, original primary axial, 6 slices of 3 mm, kernel B30f" in error.problem
    assert "2: CT chest, original primary axial, 6 slices of 3 mm, kernel B70f" in error.problem
    assert "Quillfeather" not in str(error)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(2, ["b"]), ("1", ["a"]), ("b70*", ["b"]), ("kernel B30f", ["a"]), ("all", ["a", "b"])],
)
def test_a_number_a_pattern_or_all_answers(tmp_path, study, asked, expected):
    write_series(tmp_path / "a", study, ConvolutionKernel="B30f")
    write_series(tmp_path / "b", study, ConvolutionKernel="B70f")
    names, codes = chosen(tmp_path, Wanted(modality="CT", series=asked))
    assert names == expected
    assert codes == ["other_series"] * (2 - len(expected))


def test_what_is_asked_for_need_not_be_of_the_usual_part(tmp_path, study):
    write_series(tmp_path / "a", study, BodyPartExamined="HEAD")
    write_series(tmp_path / "b", study, BodyPartExamined="CHEST")
    assert chosen(tmp_path, Wanted(modality="CT", body_part="chest", series=1))[0] == ["a"]


def test_every_study_has_its_own_choice(tmp_path):
    for name in ("a", "b"):
        write_series(tmp_path / name, new_study())
    assert chosen(tmp_path) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("chest", "chest_abdomen", True), ("head", "whole_body", True), ("head", "chest", False)],
)
def test_regions_share_parts(one, other, same):
    assert same_region(one, other) == same_region(other, one) == same
