"""Exports for MONAI's ``SwinUNETR.load_from``."""

import json

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR

from medssl.errors import InputError
from medssl.models.adapt import load_weights
from medssl.models.foreign import read_weights
from medssl.models.weights import load_encoder
from tests.export.encoders import exported, write_run
from tests.models import layouts


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", "swin_unetr", use_v2=False)


def held_in(artefact):
    return torch.load(artefact / "model_swinvit.pt", weights_only=True)


def test_the_names_are_those_of_nvidias_file(tmp_path, run):
    held = held_in(exported(run, tmp_path / "out", "swin_ssl"))
    published = layouts.nvidia(12)
    assert held.keys() == {"state_dict"}
    assert {n: v.shape for n, v in held["state_dict"].items()} == {
        n: v.shape for n, v in published["state_dict"].items()
    }


def test_monai_takes_every_tensor_of_the_transformer(tmp_path, run):
    artefact = exported(run, tmp_path / "out", "swin_ssl")
    network = SwinUNETR(in_channels=1, out_channels=3, feature_size=12)
    network.load_from(held_in(artefact))
    encoder, _ = load_encoder(run)
    mine, theirs = encoder.swinViT.state_dict(), network.swinViT.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], value) for name, value in theirs.items())
    verified = json.loads((artefact / "provenance.json").read_text())["verified"]
    assert verified["largest_difference_of_maps"] < 1e-9
    assert verified["left_out"] == "11 tensors behind the transformer"


@pytest.mark.parametrize(
    "options", [{"dims": 2, "window": 4}, {"depths": (1, 2, 1, 1), "in_channels": 2}]
)
def test_other_transformers_open_too(tmp_path, options):
    run = write_run(tmp_path / "run", "swin_unetr", use_v2=False, **options)
    exported(run, tmp_path / "out", "swin_ssl")


def test_our_own_reader_takes_it_back(tmp_path, run):
    artefact = exported(run, tmp_path / "out", "swin_ssl")
    encoder, _ = load_encoder(run)
    other = encoder.config.build()
    weights = read_weights(artefact / "model_swinvit.pt")
    load_weights(other, weights, min_loaded=0.1)
    mine, theirs = encoder.swinViT.state_dict(), other.swinViT.state_dict()
    assert all(torch.equal(mine[name], value) for name, value in theirs.items())


def test_what_load_from_would_drop_is_refused(tmp_path):
    run = write_run(tmp_path / "run", "swin_unetr")
    with pytest.raises(InputError, match="leaves out the convolutions before each stage") as error:
        exported(run, tmp_path / "out", "swin_ssl")
    assert "voco" in error.value.hint


def test_other_encoders_are_refused(tmp_path):
    run = write_run(tmp_path / "run", "segresnet")
    with pytest.raises(InputError, match="segresnet is no Swin UNETR"):
        exported(run, tmp_path / "out", "swin_ssl")
