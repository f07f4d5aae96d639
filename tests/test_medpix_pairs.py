"""MedPix as pairs: splits by case, what a text holds and leaves out, and labels."""

import pytest

from medssl.data.pictures import PicturesConfig, read_stored, store_pictures
from medssl.errors import InputError
from medssl.reports.pairs import read_pairs
from pipelines.medpix_pairs import PLACEHOLDER, medpix_table, read_medpix, write_medpix_pairs
from tests.medpix import archive


@pytest.fixture
def folder(tmp_path):
    return archive(tmp_path / "medpix")


def written(folder, tmp_path, change=None):
    """Return the archive, and its pairs of images and of cases."""
    medpix = read_medpix(folder, 0.3)
    if change is not None:
        change(medpix)
    table = tmp_path / "table.csv"
    table.write_text(medpix_table(medpix).to_csv(index=False))
    config = {"sources": table, "out": tmp_path / "store", "key_file": tmp_path / "key"}
    config |= {"create_key": True, "size_px": 8, "workers": 1, "tracking": {"enabled": False}}
    store_pictures(PicturesConfig.model_validate(config))
    write_medpix_pairs(
        medpix, tmp_path / "store", images=tmp_path / "images", cases=tmp_path / "cases"
    )
    return medpix, read_pairs(tmp_path / "images").pairs, read_pairs(tmp_path / "cases").pairs


def test_cases_never_end_in_two_splits_and_dev_is_test(folder, tmp_path):
    medpix, images, cases = written(folder, tmp_path)
    assert (len(images), len(cases)) == (36, 12)
    splits = {case.patient_key: case.split for case in cases}
    assert all(image.split == splits[image.patient_key] for image in images)
    assert sorted(splits.values()).count("test") == 4
    assert {"train", "val", "test"} == set(splits.values())
    held = [name for name, split in medpix.split_of.items() if split == "val"]
    again = read_medpix(folder, 0.3).split_of
    assert held == [name for name, split in again.items() if split == "val"]
    assert set(held) <= {n for n, s in read_medpix(folder, 0.6).split_of.items() if s == "val"}


def test_an_image_has_its_caption_and_a_case_all_of_them_once(folder, tmp_path):
    medpix, images, cases = written(folder, tmp_path)
    by_row = {stored.volume_key: stored.row for stored in read_stored(tmp_path / "store")}
    for image in images:
        about = medpix.images[by_row[image.volume_keys[0]]]["Description"]
        assert image.text(["findings"]) == about["Caption"].strip()
        assert image.text(["technique"]) == f"{about['Modality'].strip()}, Axial."
    for case in cases:
        number = int(medpix.images[by_row[case.volume_keys[0]]]["U_id"][3:])
        assert case.text(["findings"]).split("\n\n") == [
            f"A mass on the left of case {number}.", "Axial view.", f"No. {number}.",
        ]  # fmt: skip
        assert len(case.volume_keys) == 3


def test_nothing_is_said_that_is_not_read_off_the_images(folder, tmp_path):
    for pair in sum(written(folder, tmp_path)[1:], ()):
        assert "SECRET" not in pair.text([part.name for part in pair.sections])


def test_placeholders_are_no_text(folder, tmp_path):
    def change(medpix):
        medpix.images[0]["Description"]["Caption"] = f"{PLACEHOLDER} OF THE IMAGE."
        medpix.images[1]["Description"]["Caption"] = None

    _, images, _ = written(folder, tmp_path, change)
    keys = {s.row: s.volume_key for s in read_stored(tmp_path / "store")}
    texts = {image.study_key: image.sections[0].text for image in images}
    assert [texts[keys[row]] for row in (0, 1, 2)] == ["", "", "Axial view."]


def test_labels_are_those_of_the_case(folder, tmp_path):
    _, images, cases = written(folder, tmp_path)
    by_case = {case.patient_key: case.labels for case in cases}
    assert all(image.labels == by_case[image.patient_key] for image in images)
    labels = {tuple(sorted(of)) for of in by_case.values()}
    assert ("modality: CT", "region: Head", "system: Organ 0") in labels
    assert ("category: Trauma", "modality: CT", "region: Thorax", "system: Organ 1") in labels


def test_an_image_has_its_own_modality_and_a_case_all_of_them(folder, tmp_path):
    def change(medpix):
        medpix.images[0]["Type"] = "MR"

    _, images, cases = written(folder, tmp_path, change)
    keys = {s.row: s.volume_key for s in read_stored(tmp_path / "store")}
    of_image = {image.study_key: set(image.labels) for image in images}
    both = {"modality: CT", "modality: MR"}
    assert [of_image[keys[row]] & both for row in (0, 1)] == [{"modality: MR"}, {"modality: CT"}]
    case = next(case for case in cases if keys[0] in case.volume_keys)
    assert both <= set(case.labels)


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"lacks one of descriptions\.json"):
        read_medpix(tmp_path, 0.2)
