"""The loader that MLflow calls, without MLflow, and what is said of a model's input."""

import numpy as np
import pandas as pd
import pytest

from medssl.errors import InputError, RejectedFileError
from medssl.inference.predictor import Predictor
from medssl.inference.pyfunc import _load_pyfunc
from medssl.io.nifti import read_nifti
from medssl.training.finetune import finetune
from medssl.training.task_package import AFFINE, package_of
from tests.finetuned import config, finetuned, write_table


@pytest.fixture(scope="module")
def folder():
    return finetuned() / "pretrained"


@pytest.fixture(scope="module")
def model(folder):
    return _load_pyfunc(str(folder))


@pytest.fixture(scope="module")
def scan():
    return min((finetuned().parent / "balls" / "imagesTr").glob("*.nii.gz"))


@pytest.fixture(scope="module")
def expected(folder, scan):
    return Predictor.load(folder).predict(read_nifti(scan, "MR"))


def test_a_path_gives_the_mask_that_predict_gives(model, scan, expected):
    assert np.array_equal(model.predict(str(scan)), expected)
    assert np.array_equal(model.predict(scan), expected)


def test_an_array_with_its_affine_gives_the_same(model, scan, expected):
    volume = read_nifti(scan)
    params = {AFFINE: np.asarray(volume.affine_ras).ravel()}
    assert np.array_equal(model.predict(volume.array_IJK, params), expected)
    assert np.array_equal(model.predict(volume.array_IJK.astype(np.float64), params), expected)


def test_an_array_without_one_lies_on_the_models_own_grid(model, scan, folder):
    array_IJK = read_nifti(scan).array_IJK
    own = package_of(folder).params[AFFINE]
    assert np.reshape(own, (4, 4)).tolist() == np.diag([1.0, 1.0, 1.0, 1.0]).tolist()
    without, with_own = model.predict(array_IJK), model.predict(array_IJK, {AFFINE: own})
    assert np.array_equal(without, with_own)
    assert without.shape == array_IJK.shape


def test_several_paths_give_several_masks(model, scan, expected):
    for given in ([str(scan), scan], pd.DataFrame({"path": [str(scan)] * 2})):
        one, two = model.predict(given)
        assert np.array_equal(one, expected)
        assert np.array_equal(two, expected)


def test_nested_lists_are_an_array_as_a_web_client_sends_one(model, folder):
    example = package_of(folder).example
    assert np.array_equal(model.predict(example), model.predict(np.asarray(example)))


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 4, 4, 4)), np.zeros((0, 2, 2)), np.zeros((2, 2, 2), bool), None]
)
def test_what_is_neither_a_path_nor_a_volume_is_explained(model, wrong):
    with pytest.raises(InputError, match="expected a path or an array of three axes"):
        model.predict(wrong)


@pytest.mark.parametrize("wrong", [[1.0] * 15, [0.0] * 16, [float("nan")] * 16])
def test_what_is_no_affine_is_explained(model, wrong):
    with pytest.raises(InputError, match="affine_ras is no affine matrix"):
        model.predict(np.zeros((2, 2, 2)), {AFFINE: wrong})


def test_a_missing_file_is_not_named(model, tmp_path):
    with pytest.raises(RejectedFileError) as told:
        model.predict(tmp_path / "Quillfeather^Ida.nii.gz")
    assert "Quillfeather" not in str(told.value)


def test_the_package_says_what_the_model_is_and_shows_no_patient(folder):
    package = package_of(folder)
    assert package.loader == "medssl.inference.pyfunc"
    assert package.output == ("uint8", [-1, -1, -1])
    assert np.ptp(np.asarray(package.example)) > 0
    assert any(line.startswith("medssl==") for line in package.requirements)
    assert package.tags["medssl.labels"] == "background, shell, kernel"
    assert len(package.tags["medssl.dataset_digest"]) == 64


def test_a_model_about_whole_volumes_gives_what_predict_says_of_them(tmp_path):
    table = write_table(tmp_path / "balls")
    task = {"name": "classification", "columns": ["finding"]}
    encoder = {"name": "segresnet", "width": 4, "blocks": [1, 1, 1]}
    finetune(config(table, tmp_path / "run", task=task, encoder=encoder))
    folder, scan = tmp_path / "run" / "scratch", tmp_path / "balls" / "ball_1.nii.gz"
    shares = _load_pyfunc(str(folder)).predict(str(scan))
    told = Predictor.load(folder).answers(read_nifti(scan, "MR"))
    assert shares.tolist() == list(told.values())
    assert shares.sum() == pytest.approx(1)
    assert package_of(folder).output == ("float64", [-1])
