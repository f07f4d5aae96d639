"""Continued pretraining: a method begins with given weights, its teacher and decoder too."""

import logging

import pytest
import torch

from medssl.config.load import validate
from medssl.errors import InputError
from medssl.methods.base import Method
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.weights import load_encoder, save_encoder
from medssl.runs.digest import digest_file
from medssl.runs.manifest import Manifest
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.start import StartFrom, build_method
from tests.training.stores import write_store


class WithDecoder(Method):
    """Keeps a decoder."""

    class Config(Method.Config):
        """There is nothing to set."""

    def __init__(self, config, encoder):
        super().__init__()
        self.encoder, self.decoder = encoder, encoder.decoder()


@pytest.fixture
def start(tmp_path):
    torch.manual_seed(7)
    encoder = UNetEncoder.Config.tiny().build()
    save_encoder(tmp_path / "start", encoder, decoder=encoder.decoder())
    return tmp_path / "start"


def equal(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_encoder_and_decoder_are_the_given_ones(start):
    config = UNetEncoder.Config.tiny()
    method = build_method(WithDecoder.Config(), config, StartFrom(weights=start))
    encoder, _ = load_encoder(start)
    assert equal(method.encoder, encoder)
    fresh = build_method(WithDecoder.Config(), config, StartFrom(weights=start, decoder=False))
    assert not equal(method.decoder, fresh.decoder)


class WithoutDecoder(Method):
    """Keeps none."""

    class Config(Method.Config):
        """There is nothing to set."""

    def __init__(self, config, encoder):
        super().__init__()
        self.encoder = encoder


@pytest.mark.parametrize(
    ("method", "said"),
    [(WithDecoder, "decoder is taken whole"), (WithoutDecoder, "has no decoder to begin with")],
)
def test_a_decoder_is_said_to_be_taken_only_where_it_is(start, caplog, method, said):
    caplog.set_level(logging.INFO, logger="medssl")
    config, given = UNetEncoder.Config.tiny(), StartFrom(weights=start)
    given.check(config)
    assert "taken whole" not in caplog.text
    build_method(method.Config(), config, given)
    assert said in caplog.text
    assert ("taken whole" in caplog.text) is (method is WithDecoder)


def tree(store, out, start, **options):
    return {
        "store": str(store),
        "out": str(out),
        "method": {
            "name": "voco",
            "views": {"grid": [2, 2, 1], "crop_voxels": 8, "random_crops": 2},
            "hidden_dim": 16,
            "projection_dim": 16,
        },
        "encoder": {"name": "unet", "channels": [4, 8], "depths": [1, 1], "decoder_convs": 1},
        "start_from": {"weights": str(start), **options},
        "schedule": {"steps": 1, "warmup_steps": 0},
        "optimizer": {"lr": 1e-12, "weight_decay": 0.0},
        "loader": {"volumes_per_batch": 2, "workers": 0, "validation_batches": 1},
        "engine": {"accelerator": "cpu"},
        "tracking": {"enabled": False},
    }


def test_a_pretraining_goes_on_from_there_and_its_manifest_says_so(start, tmp_path):
    store = write_store(tmp_path / "store")
    values = tree(store, tmp_path / "run", start)
    result = pretrain(validate(PretrainConfig, values, where="test"))
    encoder, about = load_encoder(result.folder)
    given, _ = load_encoder(start)
    for mine, theirs in zip(encoder.parameters(), given.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)  # after one step that is next to none
    digests = {
        "start": digest_file(start / "encoder.safetensors"),
        "start_decoder": digest_file(start / "decoder.safetensors"),
    }
    assert Manifest.read(result.folder).inputs.items() >= digests.items()
    assert about["started_from"] == {"file": "encoder.safetensors", **digests}


def test_weights_of_another_size_stop_it_before_anything_is_left(start, tmp_path):
    store = write_store(tmp_path / "store")
    values = tree(store, tmp_path / "run", start)
    values["encoder"]["channels"] = [6, 8]
    with pytest.raises(InputError, match="set the encoder's options to those of the file"):
        pretrain(validate(PretrainConfig, values, where="test"))
    assert not (tmp_path / "run").exists()
