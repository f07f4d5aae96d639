import logging
import shutil
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, load
from safetensors.torch import load_file

from medssl.errors import InputError
from medssl.export import open_bundle, verify
from medssl.export.export import export
from medssl.export.formats.monai_bundle import MonaiBundle
from medssl.export.verify import REQUIRED_METADATA, VerificationError
from medssl.inference.predict import PredictConfig, predict
from medssl.inference.predictor import Predictor
from medssl.io.nifti import read_nifti
from medssl.runs.folder import read_json, write_json
from tests.export.bundles import bundle, config
from tests.finetuned import finetuned


def scan():
    return finetuned().parent / "balls" / "imagesTr" / "ball_0.nii.gz"


def test_it_is_laid_out_as_the_model_zoo_does():
    names = {str(path.relative_to(bundle())) for path in bundle().rglob("*") if path.is_file()}
    assert names == {
        "LICENSE", "configs/inference.json", "configs/metadata.json", "docs/README.md",
        "provenance.json", "SHA256SUMS", "models/model.json", "models/model.pt",
        "models/model.safetensors",
    }  # fmt: skip


def test_every_voxel_was_compared_on_a_real_and_on_an_oblique_scan():
    found = read_json(bundle() / "provenance.json")["verified"]
    assert found["voxels_different"] == 0
    assert found["real_scan_voxels_equal"] == 20 * 22 * 18
    assert found["oblique_voxels_equal"] % 2 == 1  # three odd sizes


def test_metadata_has_what_the_schema_and_the_zoo_require():
    metadata = read_json(bundle() / "configs" / "metadata.json")
    assert set(REQUIRED_METADATA) <= metadata.keys()
    assert metadata["version"] in metadata["changelog"]
    formats = metadata["network_data_format"]
    assert next(iter(formats["inputs"])) == "image"
    assert formats["outputs"]["pred"]["channel_def"] == {
        "0": "background",
        "1": "shell",
        "2": "kernel",
    }
    assert metadata["eval_metrics"]["dice_mean"] > 0.8
    assert "+" not in metadata["pytorch_version"]


def test_the_state_dict_is_plain_and_is_that_of_the_network():
    state = torch.load(bundle() / "models" / "model.pt", weights_only=True)
    safe = load_file(bundle() / "models" / "model.safetensors")
    assert all(torch.equal(state[name], safe[name]) for name in safe)
    parser = ConfigParser(read_json(bundle() / "configs" / "inference.json"))
    network = parser.get_parsed_content("network_def")
    assert network.state_dict().keys() == state.keys()


def test_monai_bundle_load_gives_the_network():
    blank = ConfigParser(read_json(bundle() / "configs" / "inference.json"))
    network = load(
        bundle().name,
        model=blank.get_parsed_content("network_def"),
        bundle_dir=bundle().parent,
        device="cpu",
    )
    x = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    mine = Predictor.load(bundle())
    with torch.no_grad():
        assert torch.equal(network.eval()(x), mine._network(x))


@pytest.mark.parametrize("verb", [pytest.param("run", marks=pytest.mark.slow), "verify_net_in_out"])
def test_monais_own_command_takes_it(tmp_path, verb):
    pytest.importorskip("ignite")
    pytest.importorskip("fire")
    (tmp_path / "scans").mkdir()
    shutil.copy(scan(), tmp_path / "scans")
    files = ["--config_file", "configs/inference.json"]
    arguments = {
        "run": ["--dataset_dir", str(tmp_path / "scans"), "--output_dir", str(tmp_path / "out")],
        "verify_net_in_out": ["--net_id", "network_def", "--meta_file", "configs/metadata.json"],
    }
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", verb, *files, *arguments[verb]],
        cwd=bundle(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if verb == "run":
        mask = nibabel.load(tmp_path / "out" / "ball_0_seg.nii.gz")
        mine = Predictor.load(bundle()).predict(read_nifti(scan(), modality="MR"))
        assert mask.get_data_dtype() == np.uint8
        assert np.array_equal(np.asarray(mask.dataobj), mine)


def test_our_predict_reads_the_bundle_and_never_its_expressions(tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(bundle(), copy)
    for name in ("inference.json", "metadata.json"):
        (copy / "configs" / name).write_text('{"run": "$__import__(\'os\')._exit(3)"')
    (copy / "models" / "model.pt").write_bytes(b"not a state dict")
    predict(
        PredictConfig(
            model=copy, inputs=(scan(),), out=tmp_path / "out", tracking={"enabled": False}
        )
    )
    mask = np.asarray(nibabel.load(tmp_path / "out" / "ball_0_seg.nii.gz").dataobj)
    assert np.array_equal(mask, Predictor.load(bundle()).predict(read_nifti(scan(), modality="MR")))


@pytest.fixture
def opened_here(monkeypatch):
    """Have MONAI open bundles in this process: ``bundle`` was verified in one of its own."""

    def opened(command, *, failure):
        assert command[:3] == [sys.executable, "-m", open_bundle.__name__], failure
        bundle_folder, out, *scans = command[3:]
        open_bundle.main(bundle_folder, out, scans)

    monkeypatch.setattr(verify, "run_alone", opened)
    before = logging.root.manager.disable
    yield
    logging.disable(before)


def other_weights(self, run, folder, card):
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    state["up_layers.1.head.bias"] += torch.tensor([5.0, 0, 0])
    torch.save(state, folder / "models" / "model.pt")


def other_preprocessing(self, run, folder, card):
    inference = read_json(folder / "configs" / "inference.json")
    inference["preprocessing"]["transforms"][4]["upper"] = 60.0
    write_json(folder / "configs" / "inference.json", inference)


def no_inversion(self, run, folder, card):
    inference = read_json(folder / "configs" / "inference.json")
    del inference["postprocessing"]["transforms"][1]
    write_json(folder / "configs" / "inference.json", inference)


def foreign_expression(self, run, folder, card):
    inference = read_json(folder / "configs" / "inference.json")
    inference["datalist"] = "$__import__('glob').glob(@dataset_dir)"
    write_json(folder / "configs" / "inference.json", inference)


def wrong_channels(self, run, folder, card):
    metadata = read_json(folder / "configs" / "metadata.json")
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = 7
    write_json(folder / "configs" / "metadata.json", metadata)


def no_authors(self, run, folder, card):
    metadata = read_json(folder / "configs" / "metadata.json")
    del metadata["authors"]
    write_json(folder / "configs" / "metadata.json", metadata)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (other_weights, "voxels differ"),
        (other_preprocessing, "voxels differ"),
        (no_inversion, "not on the scan's own grid"),
        (foreign_expression, "__import__"),
        (wrong_channels, "not those that metadata.json describes"),
        (no_authors, "lacks authors"),
    ],
)
def test_a_bundle_that_is_not_the_model_leaves_nothing(
    tmp_path, monkeypatch, opened_here, damage, said
):
    original = MonaiBundle.write

    def damaged(self, *args):
        original(self, *args)
        damage(self, *args)

    monkeypatch.setattr(MonaiBundle, "write", damaged)
    with pytest.raises(VerificationError, match=said):
        export(config(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*bundle*"))


def test_its_card_says_how_good_it_is_and_names_no_place():
    card = (bundle() / "docs" / "README.md").read_text()
    assert "mean Dice, shell: 0.9" in card
    assert "CC-BY-4.0" in card
    assert "A. Tester" in card
    for path in bundle().rglob("*.*"):
        if path.suffix in {".json", ".md"}:
            assert str(finetuned().parent) not in path.read_text()


def test_a_model_without_its_data_needs_a_scan_to_verify_on(tmp_path, opened_here):
    copy = tmp_path / "model"
    copy.mkdir()
    for name in ("model.safetensors", "model.json"):
        shutil.copy(finetuned() / "pretrained" / name, copy)
    with pytest.raises(InputError, match=r"set format\.verify_on"):
        export(config(tmp_path / "a", run=copy))
    options = {"name": "monai_bundle", "verify_on": scan()}
    export(config(tmp_path / "b", run=copy, format=options))
    gone = options | {"verify_on": tmp_path / "gone.nii.gz"}
    with pytest.raises(InputError, match="no such file to verify"):
        export(config(tmp_path / "c", run=copy, format=gone))
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "c").exists()
