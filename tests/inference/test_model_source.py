"""A model is a folder or an address of the registry; what was tampered with is not used."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from medssl.errors import InputError
from medssl.export.register import register
from medssl.inference.model_source import cache_folder, open_model
from medssl.inference.predict import PredictConfig, predict
from medssl.runs.destination import TrackingConfig
from medssl.runs.digest import digest_file
from medssl.runs.folder import read_json, write_json
from medssl.runs.mlflow.connection import StoreError
from medssl.training.task_model import DESCRIPTION, WEIGHTS
from tests.finetuned import finetuned
from tests.mlflow_servers import blank_store


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A finetuning beside the store in which one of its models is registered."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(finetuned(), folder / "run")
    blank_store(folder)
    register(folder / "run" / "pretrained", name="balls", alias="champion")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def opened(model, work):
    return open_model(str(model), TrackingConfig(), work / "out")


def test_a_folder_is_one_model_or_a_run_with_one(work, tmp_path):
    about = opened(work / "run" / "pretrained", work).description
    shutil.copytree(work / "run" / "pretrained", tmp_path / "run" / "scratch")
    assert opened(tmp_path / "run", work).description == about
    with pytest.raises(InputError, match="holds 2 models: pretrained, scratch"):
        opened(work / "run", work)


@pytest.mark.parametrize("address", ["models:/balls@champion", "models:/balls/1"])
def test_a_registered_model_is_downloaded_once_and_is_the_same(work, address):
    model = opened(address, work)
    about = read_json(work / "run" / "pretrained" / DESCRIPTION)
    assert model.description.weights_digest == about["weights_digest"]
    kept = cache_folder() / about["weights_digest"]
    assert {path.name for path in kept.iterdir()} == {WEIGHTS, DESCRIPTION}
    written = (kept / WEIGHTS).stat().st_mtime_ns
    opened(address, work)
    assert (kept / WEIGHTS).stat().st_mtime_ns == written


def test_the_stage_takes_an_address(work):
    scan = finetuned().parent / "balls" / "imagesTr" / "ball_0.nii.gz"
    config = PredictConfig(model="models:/balls@champion", inputs=(scan,), out=work / "predicted")
    assert predict(config).summary["predicted"] == 1


def test_weights_that_were_changed_in_the_cache_are_refused_and_fetched_anew(work):
    opened("models:/balls@champion", work)
    (kept,) = cache_folder().iterdir()
    weights = load_file(kept / WEIGHTS)
    save_file({name: tensor + 1 for name, tensor in weights.items()}, kept / WEIGHTS)
    with pytest.raises(InputError, match="not the file that"):
        opened("models:/balls@champion", work)
    assert opened("models:/balls@champion", work).network is not None


def test_a_store_whose_files_were_swapped_is_refused(work, tmp_path):
    """Weights and description agree with each other, but not with the registry."""
    theirs = shutil.copytree(work, tmp_path / "work") / "run" / "scratch"
    for path in work.rglob("mlartifacts/**/data/model/*"):
        keep = path.read_bytes()
        path.write_bytes((theirs / path.name).read_bytes())
        (tmp_path / path.name).write_bytes(keep)
    try:
        with pytest.raises(InputError, match="not those that the registry describes"):
            opened("models:/balls@champion", work)
        assert not any(cache_folder().iterdir())
    finally:
        for path in work.rglob("mlartifacts/**/data/model/*"):
            path.write_bytes((tmp_path / path.name).read_bytes())


@pytest.mark.parametrize("wrong", ["models:/balls", "models:/balls/latest", "models:/../x@y"])
def test_what_is_no_address_is_explained(work, wrong):
    with pytest.raises(InputError, match="write models:/NAME@ALIAS"):
        opened(wrong, work)


@pytest.mark.parametrize("unknown", ["models:/balls@loser", "models:/balls/7", "models:/x@y"])
def test_what_the_registry_does_not_have_is_explained(work, unknown):
    with pytest.raises(StoreError, match="no such run, model or alias"):
        opened(unknown, work)


def test_a_model_of_another_number_of_channels_is_refused(work, tmp_path):
    folder = shutil.copytree(work / "run" / "pretrained", tmp_path / "model")
    about = read_json(folder / DESCRIPTION)
    about["encoder"]["in_channels"] = 4
    weights = load_file(folder / WEIGHTS)
    (first,) = (name for name, value in weights.items() if value.ndim == 5 and value.shape[1] == 1)
    weights[first] = weights[first].repeat(1, 4, 1, 1, 1)
    save_file(weights, folder / WEIGHTS)
    about["weights_digest"] = digest_file(folder / WEIGHTS)
    write_json(folder / DESCRIPTION, about)
    with pytest.raises(InputError, match="takes images of 4 channels, and a scan is one"):
        opened(folder, work)
