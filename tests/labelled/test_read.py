import json

import numpy as np
import pytest

from medssl.errors import InputError
from medssl.io.nifti import write_nifti
from medssl.labelled.cases import read_pair
from medssl.labelled.read import read_labelled
from tests.finetuned import LABELS, affine, phantom, write_dataset


def edit(path, change):
    described = json.loads(path.read_text())
    change(described)
    path.write_text(json.dumps(described))
    return path


def test_a_good_set_is_read_and_its_digest_follows_every_byte(tmp_path):
    path = write_dataset(tmp_path / "balls", cases=3)
    labelled = read_labelled(path)
    assert labelled.labels == LABELS
    assert labelled.modality == "MR"
    assert labelled.licence == "CC0"
    assert [case.case_key for case in labelled.cases] == ["case-001", "case-002", "case-003"]
    assert [case.patient_key for case in labelled.cases] == [f"patient-00{n}" for n in (1, 2, 3)]
    volume, label = read_pair(labelled.case("case-002"), labelled.modality)
    image, expected = phantom(1)
    assert np.array_equal(volume.array_IJK, image)
    assert np.array_equal(label, expected)
    image[0, 0, 0] += 1
    write_nifti(image, affine(), labelled.cases[1].image)
    assert read_labelled(path).digest != labelled.digest


def test_all_problems_are_named_at_once(tmp_path):
    path = write_dataset(tmp_path / "balls", cases=6)
    images, labels = path.parent / "imagesTr", path.parent / "labelsTr"
    (images / "ball_0.nii.gz").unlink()
    write_nifti(phantom(1, (20, 22, 17))[1], affine(), labels / "ball_1.nii.gz")
    write_nifti(phantom(2)[1], affine(spacing_mm=(1, 1, 1.2)), labels / "ball_2.nii.gz")
    write_nifti(phantom(3)[1] * 3, affine(), labels / "ball_3.nii.gz")
    content = (images / "ball_4.nii.gz").read_bytes()
    (images / "ball_4.nii.gz").write_bytes(content[: len(content) // 2])

    def twice(described):
        described["training"].append(described["training"][5])
        described["training"].append({"image": "alone.nii.gz"})

    with pytest.raises(InputError) as caught:
        read_labelled(edit(path, twice))
    said = str(caught.value)
    assert "7 problem(s)" in said
    for line in (
        r"case-001 \(ball_0.nii.gz\): the image is missing",
        r"case-002 .*\(20, 22, 18\) voxels, its label map \(20, 22, 17\)",
        r"case-003 .*up to 3.4 mm beside its image",
        r"case-004 .*undeclared values: 3, 6",
        r"case-005 .*the image cannot be read: ",
        r"case-007 .*the same image as case-006",
        r"case-008: the entry must have `image` and `label`",
    ):
        caught.match(line)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": {"0": "background"}}, "at least one class"),
        ({"labels": {"0": "background", "2": "two"}}, "without gaps"),
        ({"labels": {"0": "background", "1": "one"}}, "undeclared values: 2"),
        ({"modality": {"0": "T1", "1": "T2"}}, "one channel"),
        ({"training": []}, "`training` is empty"),
        ({"training": "none"}, "no list `training`"),
    ],
)
def test_a_wrong_description_is_explained(tmp_path, change, said):
    path = write_dataset(tmp_path / "balls", cases=1)
    edit(path, lambda described: described.update(change))
    with pytest.raises(InputError, match=said):
        read_labelled(path)


def test_what_is_not_json_or_not_there_is_explained(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_labelled(tmp_path / "dataset.json")
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        read_labelled(tmp_path / "dataset.json")


def test_labels_may_be_counted_as_nnunet_does(tmp_path):
    counted = {name: number for number, name in enumerate(LABELS)}
    path = write_dataset(tmp_path / "balls", cases=1, labels=counted)
    assert read_labelled(path).labels == LABELS


def test_patients_group_cases_and_are_never_named(tmp_path):
    path = write_dataset(tmp_path / "balls", cases=3)

    def name_patients(described):
        for entry, name in zip(described["training"], ("DOE^JANE", "ROE", "DOE^JANE"), strict=True):
            entry["patient"] = name

    labelled = read_labelled(edit(path, name_patients))
    keys = [case.patient_key for case in labelled.cases]
    assert keys == ["patient-001", "patient-002", "patient-001"]


def test_the_shipped_hippocampus_set_is_good(shipped):
    labelled = read_labelled(shipped / "hippocampus" / "dataset.json")
    assert labelled.labels == ("background", "Anterior", "Posterior")
    assert len(labelled.cases) == 44
