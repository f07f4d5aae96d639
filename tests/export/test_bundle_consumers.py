"""Bundles in MONAI Label's and the Deploy SDK's own way of opening them."""

import logging
import shutil

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, verify_net_in_out

from medssl.export.formats.monai_bundle import inference_config
from medssl.export.verify import oblique_phantom
from medssl.inference.predictor import Predictor
from medssl.io.nifti import read_nifti, write_nifti
from medssl.runs.folder import read_json
from tests.export.bundles import bundle
from tests.export.consumers import Label, deployed_network, log

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated"),
    pytest.mark.filterwarnings("ignore:.*NvImgCodecPydicomReader"),
]
ZOO = ("LICENSE", "configs/metadata.json", "configs/inference.json", "docs/README.md",
       "models/model.pt")  # fmt: skip


@pytest.fixture(scope="module")
def odd_scan(tmp_path_factory):
    """An oblique scan of odd sizes on another grid than the model's."""
    path = tmp_path_factory.mktemp("odd") / "odd.nii.gz"
    write_nifti(*oblique_phantom(Predictor.load(bundle()).description), path)
    return path


def test_monai_label_reads_what_it_needs(caplog):
    with caplog.at_level(logging.WARNING, logger=log.name):
        task = Label(bundle())
    assert not caplog.records
    assert task.labels == {"shell": 1, "kernel": 2}
    assert (task.dimension, task.kind) == (3, "segmentation")
    assert task.displayable == {"sw_overlap": 0.25, "sw_batch_size": 4}
    loaded = torch.load(bundle() / "models" / "model.pt", weights_only=True)
    task.network.load_state_dict(loaded, strict=True)


def test_monai_labels_mask_of_an_odd_volume_is_ours_voxel_by_voxel(odd_scan):
    volume = read_nifti(odd_scan, modality="MR")
    mask, affine = Label(bundle()).infer(odd_scan)
    assert all(size % 2 for size in mask.shape)
    assert np.array_equal(mask.numpy(), Predictor.load(bundle()).predict(volume))
    assert np.allclose(affine, volume.affine_ras, atol=1e-3)


def test_what_a_user_of_monai_label_changes_reaches_the_inferer():
    inferer = Label(bundle(), {"sw_overlap": 0.5}).parser.get_parsed_content("inferer")
    assert inferer.overlap == 0.5
    assert inferer.sw_batch_size == 4


def test_monai_label_warns_of_weights_of_other_names(tmp_path, caplog):
    shutil.copytree(bundle(), tmp_path / "b")
    path = tmp_path / "b" / "models" / "model.pt"
    state = torch.load(path, weights_only=True)
    torch.save({f"module.{name}": value for name, value in state.items()}, path)
    with caplog.at_level(logging.WARNING, logger=log.name):
        Label(tmp_path / "b")
    assert "Checkpoint keys don't match" in caplog.text
    with pytest.raises(RuntimeError, match="Missing key"):
        deployed_network(tmp_path / "b")


@pytest.mark.parametrize("without", [None, "network"])
def test_the_deploy_sdk_opens_it_strictly(tmp_path, without):
    shutil.copytree(bundle(), tmp_path / "b")
    if without:
        path = tmp_path / "b" / "configs" / "inference.json"
        config = read_json(path)
        del config[without]
        ConfigParser.export_config_file(config, str(path))
    network = deployed_network(tmp_path / "b")
    x = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.equal(network(x), Predictor.load(bundle())._network(x))


def test_the_model_zoos_rules_hold():
    for name in ZOO:
        assert (bundle() / name).is_file()
    metadata = read_json(bundle() / "configs" / "metadata.json")
    assert metadata["changelog"][metadata["version"]]
    assert all(part.isdigit() for part in metadata["version"].split("."))
    config = read_json(bundle() / "configs" / "inference.json")
    assert {"bundle_root", "device", "network_def", "network", "inferer", "initialize"} <= (
        config.keys()
    )


@pytest.mark.parametrize("net_id", ["network_def", "network"])
def test_monai_finds_in_and_output_as_described(net_id):
    configs = bundle() / "configs"
    verify_net_in_out(
        net_id=net_id,
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        device="cpu",
    )


def test_an_inferer_without_settings_shows_none():
    about = Predictor.load(bundle()).description
    config = inference_config(about.model_copy(update={"inferer": {"_target_": "SimpleInferer"}}))
    assert config["displayable_configs"] == {}
    assert config["inferer"] == {"_target_": "SimpleInferer"}
