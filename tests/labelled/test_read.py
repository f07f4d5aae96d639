import numpy as np
import pytest

from medssl.errors import ConfigError, InputError
from medssl.io.nifti import write_nifti
from medssl.labelled.cases import read_pair
from medssl.labelled.read import read_labelled
from tests.labelled.examples import LABELS, affine, decathlon, edit, phantom, table


def test_a_good_set_is_read_and_its_digest_follows_every_byte(tmp_path):
    path = decathlon(tmp_path / "balls", cases=3)
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
    path = decathlon(tmp_path / "balls", cases=6)
    images, labels = path.parent / "imagesTr", path.parent / "labelsTr"
    (images / "ball_0.nii.gz").unlink()
    write_nifti(phantom(1, (12, 14, 9))[1], affine(), labels / "ball_1.nii.gz")
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
        r"case-002 .*\(12, 14, 10\) voxels of 1 x 1 x 1 mm, its label map \(12, 14, 9\)",
        r"case-003 .*up to 1.8 mm beside its image",
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
        ({"training": "none"}, "there is no list `training`"),
    ],
)
def test_a_wrong_description_is_explained(tmp_path, change, said):
    path = decathlon(tmp_path / "balls", cases=1)
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
    path = decathlon(tmp_path / "balls", cases=1, labels=counted)
    assert read_labelled(path).labels == LABELS


def test_patients_group_cases_and_are_never_named(tmp_path):
    path = decathlon(tmp_path / "balls", cases=3)

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


def test_what_fits_no_layout_is_told_what_every_layout_looks_for(tmp_path):
    with pytest.raises(InputError) as caught:
        read_labelled(tmp_path)
    for name in ("decathlon, ", "dicom_seg, ", "nnunet, ", "table, "):
        caught.match(rf"\n  - {name}.*: ")
    path = table(tmp_path / "table")
    with pytest.raises(InputError, match=r"decathlon, a dataset.json .*: it is not a .json file"):
        read_labelled(path, "decathlon")
    with pytest.raises(ConfigError, match=r"no layout 'bids'(.|\n)*choose one of auto, decathlon,"):
        read_labelled(path, "bids")


def test_what_two_layouts_can_read_is_asked_about(tmp_path, monkeypatch):
    monkeypatch.setattr("medssl.labelled.layouts.table.Table.mismatch", lambda *_: "")
    path = decathlon(tmp_path / "balls", cases=1)
    with pytest.raises(InputError, match="could be read as decathlon or as table"):
        read_labelled(path)
    assert read_labelled(path, "decathlon").name == "Balls"


def test_an_entry_without_label_is_shown_without_what_it_says_of_the_patient(tmp_path):
    path = decathlon(tmp_path / "balls", cases=1)
    alone = {"image": "a.nii.gz", "patient": "DOE^JANE"}
    edit(path, lambda described: described["training"].append(alone))
    with pytest.raises(InputError, match=r"case-002: .* found \['image', 'patient'\]") as caught:
        read_labelled(path)
    assert "DOE" not in str(caught.value)


def test_a_label_map_is_read_also_where_its_image_is_missing(tmp_path):
    path = decathlon(tmp_path / "balls", cases=1)
    (path.parent / "imagesTr" / "ball_0.nii.gz").unlink()
    write_nifti(phantom(0)[1] * 3, affine(), path.parent / "labelsTr" / "ball_0.nii.gz")
    with pytest.raises(InputError, match=r"the image is missing(.|\n)*undeclared values: 3, 6"):
        read_labelled(path)


def test_label_maps_may_lie_along_other_axes_than_their_image(tmp_path):
    path = decathlon(tmp_path / "balls", cases=1)
    label = phantom(0)[1]
    turned = affine() @ [[0, 0, -1, 11], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    write_nifti(label[::-1].transpose(2, 1, 0), turned, path.parent / "labelsTr" / "ball_0.nii.gz")
    labelled = read_labelled(path)
    assert np.array_equal(read_pair(labelled.cases[0], "MR")[1], label)


def test_warnings_are_logged_and_at_most_ten_of_them(tmp_path, caplog):
    path = decathlon(tmp_path / "balls", cases=12)
    for number in range(12):
        nothing = np.zeros_like(phantom(0)[1])
        write_nifti(nothing, affine(), path.parent / "labelsTr" / f"ball_{number}.nii.gz")
    assert len(read_labelled(path).warnings) == 12
    (record,) = caplog.records
    assert record.getMessage().count("the label map shows no class") == 10
    assert record.getMessage().endswith("and 2 more")


def test_the_digest_follows_what_is_declared(tmp_path):
    path = table(tmp_path / "a")
    before = read_labelled(path).digest
    path.write_text(path.read_text().replace("ill", "better"))
    assert read_labelled(path).digest != before


def test_the_digest_of_a_plain_set_is_that_of_earlier_versions(shipped):
    digest = read_labelled(shipped / "hippocampus" / "dataset.json").digest
    assert digest == "861cb56fcbedc0ab1819046df2c934d1ea16d4a7ce9ec69c796cf05286087816"


def test_pairs_that_belong_to_others_are_named(shared, tmp_path):
    folder = shared / "data" / "segmentation" / "hippocampus" / "unpaired"
    image = folder / "images" / "hippocampus_118.nii.gz"
    labels = [folder / "labels" / f"hippocampus_{number}.nii.gz" for number in ("010", "281")]
    pairs = [{"image": str(image), "label": str(label)} for label in labels]
    with pytest.raises(InputError) as caught:
        read_labelled(decathlon(tmp_path / "set", cases=0, training=pairs, name="x"))
    for line in (
        r"3 problem\(s\)",
        r"case-002 \(hippocampus_118.nii.gz\): the same image as case-001",
        r"case-001 .* has \(37, 52, 33\) voxels of 1 x 1 x 1 mm, its label map \(36, 50, 31\)",
        r"case-002 .* has \(37, 52, 33\) .*, its label map \(512, 512, 94\) .* 0.734 x 5 mm",
    ):
        caught.match(line)
