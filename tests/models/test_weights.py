"""Encoders on disk come back as they were, or say in plain words why not."""

import json

import pytest
import torch

from medssl.errors import InputError
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.weights import load_encoder, save_encoder


def test_round_trip_is_bit_equal(tmp_path):
    encoder = SegResNetEncoder.Config(width=4, blocks=(1, 1)).build()
    save_encoder(tmp_path, encoder, spacing_mm=[1.0, 1.0, 1.0])
    again, about = load_encoder(tmp_path)
    x = torch.randn(2, 1, 8, 8, 8)
    assert torch.equal(again.embed(x), encoder.embed(x))
    assert about["spacing_mm"] == [1.0, 1.0, 1.0]
    assert again.config == encoder.config


def test_a_folder_without_an_encoder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no encoder\.safetensors"):
        load_encoder(tmp_path)


def test_weights_of_another_encoder_are_refused(tmp_path):
    save_encoder(tmp_path, SegResNetEncoder.Config(width=4, blocks=(1, 1)).build())
    about = json.loads((tmp_path / "encoder.json").read_text())
    about["encoder"]["blocks"] = [1, 2]
    (tmp_path / "encoder.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="tensors do not fit the encoder"):
        load_encoder(tmp_path)


def test_a_description_cannot_have_a_module_imported(tmp_path):
    save_encoder(tmp_path, SegResNetEncoder.Config(width=4, blocks=(1, 1)).build())
    about = json.loads((tmp_path / "encoder.json").read_text())
    about["encoder"]["name"] = "antigravity.somewhere"
    (tmp_path / "encoder.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"which medssl\.models\.encoders does not"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("damaged", ["encoder.safetensors", "encoder.json"])
def test_damaged_files_are_an_input_error(tmp_path, damaged):
    save_encoder(tmp_path, SegResNetEncoder.Config(width=4, blocks=(1, 1)).build())
    (tmp_path / damaged).write_bytes(b"{ nothing that can be read")
    with pytest.raises(InputError, match="cannot be read"):
        load_encoder(tmp_path)
