import csv
import json

import nibabel
import numpy as np
import pytest

from medssl.config.load import validate
from medssl.errors import ConfigError, InputError
from medssl.inference.predict import PredictConfig, predict
from medssl.inference.predictor import Predictor
from medssl.io.dicom.read import read_dicom_folder
from medssl.io.nifti import read_nifti, write_nifti
from medssl.training.finetune import finetune
from medssl.training.task_model import read_description
from tests.finetuned import affine, finetuned, phantom, write_dataset, write_table
from tests.finetuned import config as finetune_config
from tests.inference.studies import new_study, write_series


def config(out, *inputs, **changes):
    return PredictConfig(
        model=finetuned() / "pretrained",
        inputs=inputs,
        out=out,
        tracking={"enabled": False},
        **changes,
    )


def rows(out, table="predictions.csv"):
    with (out / table).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_nifti_gets_a_mask_with_its_own_shape_and_affine(tmp_path):
    scan = finetuned().parent / "balls" / "imagesTr" / "ball_0.nii.gz"
    predict(config(tmp_path / "out", scan))
    image, mask = nibabel.load(scan), nibabel.load(tmp_path / "out" / "ball_0_seg.nii.gz")
    assert mask.shape == image.shape
    assert np.array_equal(mask.affine, image.affine)
    assert mask.get_data_dtype() == np.uint8
    (row,) = rows(tmp_path / "out")
    counts = np.bincount(np.asarray(mask.dataobj).ravel(), minlength=3)
    assert (row["name"], row["files"]) == ("ball_0", "ball_0_seg.nii.gz")
    assert (tmp_path / "out" / row["overlay"]).is_file()
    shell, kernel = rows(tmp_path / "out", "volumes.csv")
    assert [shell["structure"], kernel["structure"]] == ["shell", "kernel"]
    assert [int(row["voxels"]) for row in (shell, kernel)] == counts[1:].tolist()
    assert float(shell["volume_ml"]) == pytest.approx(counts[1] / 1000, abs=1e-4)


def test_a_dicom_folder_gets_masks_on_the_grid_of_its_series(tmp_path, shipped):
    folder = next(path for path in (shipped / "dicom").iterdir() if path.name.startswith("mr_"))
    predict(config(tmp_path / "out", folder))
    volumes = [found.volume for found in read_dicom_folder(folder)]
    masks = sorted((tmp_path / "out").glob("*_seg.nii.gz"))
    assert len(masks) == len(volumes)
    for volume, path in zip(volumes, masks, strict=True):
        mask = nibabel.load(path)
        assert path.name.startswith("dicom_001")
        assert mask.shape == volume.shape
        assert np.allclose(mask.affine, volume.affine_ras, atol=1e-4)


def test_bad_inputs_become_rows_with_reasons_and_the_run_goes_on(tmp_path, shipped):
    good = finetuned().parent / "balls" / "imagesTr" / "ball_1.nii.gz"
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(good.read_bytes()[:500])
    flat = tmp_path / "flat.nii.gz"
    write_nifti(np.zeros((9, 9, 9), np.int16), affine(), flat)
    (tmp_path / "note.txt").write_text("no scan")
    (tmp_path / "empty").mkdir()
    ct = next(path for path in (shipped / "dicom").iterdir() if path.name.startswith("ct_"))
    given = [cut, tmp_path / "gone.nii", flat, tmp_path / "note.txt", tmp_path / "empty", ct, good]
    result = predict(config(tmp_path / "out", *given))
    found = rows(tmp_path / "out")
    assert [row["reason_code"] for row in found] == [
        "truncated_file", "missing", "constant", "unknown_format", "no_volume", "other_modality",
        "",
    ]  # fmt: skip
    assert all(row["reason"] for row in found[:-1])
    assert result.summary["inputs"] == 7
    assert result.summary["predicted"] == 1
    assert result.summary["refused"] == 6
    assert "missing (1)" in result.summary["refused_because"]
    assert str(tmp_path) not in (tmp_path / "out" / "predictions.csv").read_text()
    assert not list((tmp_path / "out").rglob(".partial*"))


def test_what_leaves_this_machine_names_no_input(tmp_path):
    scan = tmp_path / "DOE_JANE.nii.gz"
    write_nifti(phantom(3)[0], affine(), scan)
    result = predict(config(tmp_path / "out", scan))
    manifest = (tmp_path / "out" / "manifest.json").read_text()
    sent = [tmp_path / "out" / path for path in result.look_at.values()]
    assert "DOE" not in manifest + json.dumps(result.summary) + json.dumps(result.look_at)
    assert {path.name for path in sent if path.is_file()} == {"overlays.png", "volumes.csv"}


def test_a_folder_of_nifti_files_is_every_one_of_them_and_equal_names_stay_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_nifti(phantom(1)[0], affine(), tmp_path / name / "scan.nii.gz")
    write_nifti(phantom(2)[0], affine(), tmp_path / "a" / "other.nii")
    result = predict(config(tmp_path / "out", tmp_path / "a", tmp_path / "b"))
    assert result.summary["predicted"] == 3
    assert {row["files"] for row in rows(tmp_path / "out")} == {
        "other_seg.nii.gz", "scan_seg.nii.gz", "scan_2_seg.nii.gz",
    }  # fmt: skip


def test_the_same_again_is_handed_back_and_a_changed_scan_is_not(tmp_path):
    scan = tmp_path / "scan.nii.gz"
    write_nifti(phantom(1)[0], affine(), scan)
    assert not predict(config(tmp_path / "out", scan)).skipped
    assert predict(config(tmp_path / "out", scan)).skipped
    write_nifti(phantom(2)[0], affine(), scan)
    assert not predict(config(tmp_path / "out", scan), overwrite=True).skipped


def test_a_folder_without_a_model_and_no_inputs_are_explained(tmp_path):
    with pytest.raises(InputError, match="there is no task model"):
        predict(PredictConfig(model=tmp_path, inputs=(tmp_path,), out=tmp_path / "out"))
    with pytest.raises(ConfigError, match="inputs"):
        validate(PredictConfig, {"model": "m", "inputs": [], "out": "o"}, where="test")


def study(folder, **changes):
    """Write two CT series of one study, and an MR one."""
    uid = new_study()
    write_series(folder / "a", uid, BodyPartExamined="HEAD", **changes)
    write_series(folder / "b", uid, BodyPartExamined="CHEST", **changes)
    write_series(folder / "c", uid, modality="MR")
    return folder


def test_of_a_study_the_series_that_fits_is_predicted_and_the_others_are_rows(tmp_path):
    predict(config(tmp_path / "out", study(tmp_path / "study")))  # the model is for MR
    assert [(row["outcome"], row["reason_code"]) for row in rows(tmp_path / "out")] == [
        ("predicted", ""), ("skipped", "other_modality"),
    ]  # fmt: skip


def test_series_that_both_fit_are_listed_in_the_refusal_and_chosen_by_number(tmp_path):
    given = study(tmp_path / "study")
    both = {"accept_other_modality": True}
    result = predict(config(tmp_path / "out", given, **both))
    (row,) = rows(tmp_path / "out")
    assert (row["outcome"], row["reason_code"]) == ("refused", "several_series")
    assert "2: CT chest, original primary axial, 6 slices of 3 mm" in row["reason"]
    assert result.summary["refused_because"] == "several_series (1)"
    predict(config(tmp_path / "two", given, series=2, **both))
    outcomes = [row["outcome"] for row in rows(tmp_path / "two")]
    assert outcomes == ["predicted", "skipped", "skipped"]
    predict(config(tmp_path / "chest", given, body_part="chest", **both))
    first, *others = rows(tmp_path / "chest")
    assert first["outcome"] == "predicted"
    assert {row["reason_code"] for row in others} == {"other_body_part", "other_series"}


def test_an_unknown_part_of_the_body_is_explained():
    with pytest.raises(ConfigError, match="no body part known here; these are: head"):
        validate(PredictConfig, {"model": "m", "inputs": ["i"], "out": "o", "body_part": "nose"},
                 where="test")  # fmt: skip


def test_a_row_says_how_usual_a_scan_is_or_that_nobody_can_tell(tmp_path):
    dataset = write_dataset(tmp_path / "balls", cases=20)
    encoder = {"name": "segresnet", "width": 4, "blocks": [1, 1]}
    finetune(finetune_config(dataset, tmp_path / "run", encoder=encoder, body_part="chest"))
    noise = np.random.default_rng(0).normal(0, 300, (20, 22, 18)).astype(np.int16)
    write_nifti(noise, affine(), tmp_path / "noise.nii.gz")
    write_nifti(phantom(99)[0], affine(), tmp_path / "alike.nii.gz")
    scans = tmp_path / "alike.nii.gz", tmp_path / "noise.nii.gz"
    given = config(tmp_path / "out", *scans)
    predict(given.model_copy(update={"model": str(tmp_path / "run")}))
    alike, strange = rows(tmp_path / "out")
    assert alike["warnings"] == ""
    assert 0 <= float(alike["usual"]) <= 1
    assert float(strange["distance"]) > 10 * float(alike["distance"])
    assert strange["usual"] == "1.0"
    assert "looks unlike the scans that the model was trained on" in strange["warnings"]
    assert read_description(tmp_path / "run" / "scratch").training["body_part"] == "chest"
    predict(config(tmp_path / "older", scans[0]))  # of too few scans to know
    (row,) = rows(tmp_path / "older")
    assert (row["distance"], row["usual"]) == ("", "")
    assert "cannot be told" in row["warnings"]


def test_what_a_killed_run_fetched_does_not_stay(tmp_path):
    left = tmp_path / "out" / ".incoming-abc"
    left.mkdir(parents=True)
    predict(config(tmp_path / "out", finetuned().parent / "balls" / "imagesTr" / "ball_0.nii.gz"))
    assert not left.exists()


def test_a_model_about_whole_volumes_answers_in_the_table(tmp_path, monkeypatch):
    table = write_table(tmp_path / "balls")
    task = {"name": "classification", "columns": ["finding"]}
    encoder = {"name": "segresnet", "width": 4, "blocks": [1, 1, 1]}
    finetune(finetune_config(table, tmp_path / "run", task=task, encoder=encoder))
    scan = tmp_path / "balls" / "ball_1.nii.gz"
    model = {"model": tmp_path / "run/scratch", "inputs": (scan,), "out": tmp_path / "out"}
    prepare, prepared = Predictor._prepared, []
    monkeypatch.setattr(
        Predictor, "_prepared", lambda self, volume: prepared.append(1) or prepare(self, volume)
    )
    predict(PredictConfig(**model, tracking={"enabled": False}))
    (row,) = rows(tmp_path / "out")
    assert row["distance"]
    assert len(prepared) == 1  # the answer and the distance see one image
    told = dict(answer.split() for answer in row["answers"].split("; "))
    logits = Predictor.load(tmp_path / "run/scratch").outputs(read_nifti(scan, "MR"))
    shares = np.exp(logits) / np.exp(logits).sum()
    assert set(told) == {"no", "yes"}
    assert float(told["yes"]) == pytest.approx(shares[1], rel=1e-3)
    assert row["files"] == row["overlay"] == ""
    assert not list((tmp_path / "out").glob("*.nii.gz"))
