import json

import numpy as np
import pytest

from medssl.errors import ConfigError, InputError
from medssl.io.nifti import write_nifti
from medssl.labelled.read import read_labelled
from medssl.labelled.splits import LabelledSplitConfig, split_cases
from tests.labelled.examples import LABELS, SHAPE, affine, edit, nnunet, phantom, write_pair


def test_the_folder_and_its_description_are_the_same_set(tmp_path):
    folder = nnunet(tmp_path / "Dataset001_Balls")
    labelled = read_labelled(folder)
    assert labelled == read_labelled(folder / "dataset.json")
    assert labelled.name == "Dataset001_Balls"
    assert labelled.labels == LABELS
    assert labelled.modality == "MR"
    assert [case.image.name for case in labelled.cases] == [
        f"ball_{number}_0000.nii.gz" for number in range(3)
    ]
    assert (labelled.regions, labelled.ignore_label, labelled.folds) == ((), None, ())


def test_regions_keep_the_numbers_of_classes_beside_them(tmp_path):
    declared = {"background": 0, "whole": [1, 2], "kernel": 2}
    labelled = read_labelled(nnunet(tmp_path / "a", labels=declared, regions_class_order=[1, 2]))
    assert labelled.labels == ("background", "label 1", "kernel")
    assert labelled.regions == (("whole", (1, 2)), ("kernel", (2,)))


def test_voxels_to_ignore_are_no_class(tmp_path):
    folder = nnunet(tmp_path / "a", labels={"background": 0, "shell": 1, "ignore": 2})
    labelled = read_labelled(folder)
    assert labelled.labels == ("background", "shell")
    assert labelled.ignore_label == 2
    assert all(case.classes == (1,) for case in labelled.cases)
    wrong = nnunet(tmp_path / "b", labels={"background": 0, "shell": 1, "a": 2, "ignore": 4})
    with pytest.raises(InputError, match="`ignore` must be the highest label, 3, found 4"):
        read_labelled(wrong)


def test_cases_of_its_test_set_are_held_aside_where_they_have_labels(tmp_path):
    folder = nnunet(tmp_path / "a", cases=4, tested=2)
    write_nifti(phantom(9)[0], affine(), folder / "imagesTs" / "alone_0000.nii.gz")
    labelled = read_labelled(folder)
    assert [case.part for case in labelled.cases] == ["train"] * 4 + ["test"] * 2
    assert labelled.warnings == ("imagesTs: 1 image(s) without labels are left out",)
    parts = split_cases(labelled.cases, LabelledSplitConfig())
    assert parts["test"] == ["case-005", "case-006"]
    assert len(parts["val"]) == 1


def test_folds_are_those_that_the_set_declares(tmp_path):
    folder = nnunet(tmp_path / "a", cases=4)
    names = [f"ball_{number}" for number in range(4)]
    folds = [{"train": names[2:], "val": names[:2]}, {"train": names[:2], "val": names[2:]}]
    (folder / "splits_final.json").write_text(json.dumps(folds))
    labelled = read_labelled(folder)
    parts = split_cases(labelled.cases, LabelledSplitConfig(fold=1), folds=labelled.folds)
    assert parts == {
        "train": ["case-001", "case-002"],
        "val": ["case-003", "case-004"],
        "test": [],
    }
    with pytest.raises(ConfigError, match=r"splits.fold is 2, and the data set declares 2 fold"):
        split_cases(labelled.cases, LabelledSplitConfig(fold=2), folds=labelled.folds)


def test_a_fold_means_the_training_case_of_a_name_that_a_test_case_has_too(tmp_path):
    folder = nnunet(tmp_path / "a", cases=2, tested=1)
    for kind, ending in (("images", "_0000.nii.gz"), ("labels", ".nii.gz")):
        held = folder / f"{kind}Ts" / f"ball_2{ending}"
        held.rename(held.with_name(f"ball_0{ending}"))
    folds = [{"train": ["ball_0"], "val": ["ball_1"]}]
    (folder / "splits_final.json").write_text(json.dumps(folds))
    labelled = read_labelled(folder)
    parts = split_cases(labelled.cases, LabelledSplitConfig(fold=0), folds=labelled.folds)
    assert parts == {"train": ["case-001"], "val": ["case-002"], "test": ["case-003"]}


def test_folds_of_unknown_cases_and_of_one_case_on_both_sides_are_problems(tmp_path):
    folder = nnunet(tmp_path / "a")
    folds = [{"train": ["ball_0", "ball_1"], "val": ["ball_1", "ball_7"]}]
    (folder / "splits_final.json").write_text(json.dumps(folds))
    with pytest.raises(InputError) as caught:
        read_labelled(folder)
    caught.match(r"fold 0 names 1 unknown case\(s\): ball_7")
    caught.match("fold 0 trains and validates on one patient: case-002 in train, case-002 in val")
    (folder / "splits_final.json").write_text('{"train": []}')
    with pytest.raises(InputError, match=r"splits_final.json must be a list of folds"):
        read_labelled(folder)


def test_all_that_is_wrong_with_a_folder_is_named_at_once(tmp_path):
    folder = nnunet(tmp_path / "a", cases=4)
    (folder / "imagesTr" / "ball_0_0000.nii.gz").unlink()
    (folder / "labelsTr" / "ball_1.nii.gz").unlink()
    write_nifti(phantom(2)[1][1:], affine(), folder / "labelsTr" / "ball_2.nii.gz")
    write_nifti(phantom(3)[0], affine(), folder / "imagesTr" / "ball_3_0001.nii.gz")
    write_nifti(phantom(3)[0], affine(), folder / "imagesTr" / "oddly-named.nii.gz")
    edit(folder / "dataset.json", lambda described: described.update(numTraining=9))
    with pytest.raises(InputError) as caught:
        read_labelled(folder)
    for line in (
        r"6 problem\(s\)",
        r"imagesTr/oddly-named.nii.gz does not end in _0000.nii.gz",
        r"imagesTr holds 1 file\(s\) of further channels",
        r"`numTraining` is 9, and the folder holds 4 case\(s\)",
        r"case-001 .*the image is missing",
        r"case-002 .*the label is missing",
        r"case-003 .*\(12, 14, 10\) voxels of .*, its label map \(11, 14, 10\)",
    ):
        caught.match(line)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"channel_names": {"0": "T1", "1": "T2"}}, "must have one channel, since encoders read"),
        ({"file_ending": ".mha"}, r"`file_ending` is '.mha', read are .nii"),
        ({"file_ending": ".nii"}, r"hold no files that end in .nii"),
        ({"labels": {"background": 0, "a": [1, "x"]}}, "numbers or lists of numbers"),
        ({"labels": {"background": 0, "a": [1, 3]}}, "without gaps"),
        ({"labels": ["background", "a"]}, "at least one class"),
        ({"labels": {"background": 0, "a": "²"}}, "without gaps"),
        (
            {"labels": {"background": 0} | {f"c{n}": n for n in range(1, 256)} | {"ignore": 256}},
            "at most 256 classes fit a mask, found 257",
        ),
    ],
)
def test_a_wrong_description_is_explained(change, said, tmp_path):
    with pytest.raises(InputError, match=said):
        read_labelled(nnunet(tmp_path / "a", cases=1, **change))


def test_an_empty_label_map_is_a_reference_without_findings(tmp_path):
    folder = nnunet(tmp_path / "a", cases=1)
    write_pair(folder / "imagesTr" / "b_0000.nii.gz", folder / "labelsTr" / "b.nii.gz", 5)
    write_nifti(np.zeros(SHAPE, np.uint8), affine(), folder / "labelsTr" / "b.nii.gz")
    edit(folder / "dataset.json", lambda described: described.update(numTraining=2))
    labelled = read_labelled(folder)
    (warning,) = labelled.warnings
    assert warning.startswith("case-001: the label map shows no class")
    assert [case.classes for case in labelled.cases] == [(), (1, 2)]


def test_files_may_be_listed_one_by_one(tmp_path):
    folder = nnunet(tmp_path / "a", cases=2)
    (folder / "elsewhere").mkdir()
    (folder / "labelsTr" / "ball_1.nii.gz").rename(folder / "elsewhere" / "b.nii.gz")
    listed = {"b": {"images": ["imagesTr/ball_1_0000.nii.gz"], "label": "elsewhere/b.nii.gz"}}
    change = {"dataset": listed, "numTraining": 1}
    edit(folder / "dataset.json", lambda described: described.update(change))
    (case,) = read_labelled(folder).cases
    assert case.label == folder / "elsewhere" / "b.nii.gz"
    listed["c"] = {"images": ["imagesTr/a.nii.gz", "imagesTr/b.nii.gz"], "label": "c.nii.gz"}
    edit(folder / "dataset.json", lambda described: described.update(change | {"numTraining": 2}))
    with pytest.raises(InputError, match="case-002: the entry of `dataset` must have one file in"):
        read_labelled(folder)
