"""The adapt stage: published weights become a folder that every other stage takes."""

import json

import pytest
import torch
from safetensors.torch import load_file

from medssl.config.load import validate
from medssl.errors import InputError
from medssl.models.weights import load_decoder, load_encoder, save_encoder
from medssl.training.adapt import REPORT, AdaptConfig, adapt
from tests.models import layouts


def config_of(weights, out, **options):
    encoder = {"name": "swin_unetr", "feature_size": 12, **options.pop("encoder", {})}
    tree = {
        "weights": str(weights),
        "out": str(out),
        "encoder": encoder,
        "tracking": {"enabled": False},
        **options,
    }
    return validate(AdaptConfig, tree, where="test")


@pytest.fixture
def vocomni(tmp_path):
    path = tmp_path / "VoComni_B.pt"
    torch.save(layouts.vocomni(), path)
    return path


def test_a_folder_with_encoder_decoder_and_report(vocomni, tmp_path):
    config = config_of(vocomni, tmp_path / "out")
    result = adapt(config)
    assert result.summary == {
        "loaded": 145, "adapted": 0, "missing": 0, "mismatched": 0, "unused": 2, "share": 1.0,
        "decoder": "taken whole, 20 tensors",
    }  # fmt: skip
    encoder, about = load_encoder(result.folder)
    held = layouts.vocomni()
    assert all(torch.equal(value, held[name]) for name, value in encoder.state_dict().items())
    decoder = load_decoder(result.folder, encoder)
    assert all(torch.equal(value, held[name]) for name, value in decoder.state_dict().items())
    assert about["adapted_from"]["file"] == "VoComni_B.pt"
    assert about["adapted_from"]["unused"] == 2
    report = json.loads((result.folder / REPORT).read_text())
    assert len(report["loaded"]) == 145
    assert report["unused"] == ["out.conv.conv.weight", "out.conv.conv.bias"]
    assert adapt(config).skipped


def test_the_manifest_holds_the_files_digest(vocomni, tmp_path):
    from medssl.runs.digest import digest_file
    from medssl.runs.manifest import Manifest

    adapt(config_of(vocomni, tmp_path / "out"))
    assert Manifest.read(tmp_path / "out").inputs == {"start": digest_file(vocomni)}


def test_what_the_file_lacks_is_drawn_from_the_seed(tmp_path):
    torch.save(layouts.nvidia(), tmp_path / "model_swinvit.pt")
    drawn = []
    for run, seed in enumerate((0, 0, 1)):
        out = tmp_path / str(run)
        options = {"encoder": {"use_v2": False}, "min_loaded": 0.1, "seed": seed}
        adapt(config_of(tmp_path / "model_swinvit.pt", out, **options))
        drawn.append(load_file(out / "encoder.safetensors"))
    name, given = "encoder1.layer.conv1.conv.weight", "swinViT.patch_embed.proj.weight"
    assert torch.equal(drawn[0][name], drawn[1][name])
    assert not torch.equal(drawn[0][name], drawn[2][name])
    assert torch.equal(drawn[0][given], drawn[2][given])


def test_what_does_not_fit_leaves_nothing(vocomni, tmp_path):
    with pytest.raises(InputError, match="only"):
        adapt(config_of(vocomni, tmp_path / "out", encoder={"feature_size": 24}))
    assert not (tmp_path / "out").exists()


def test_an_encoder_of_ours_keeps_what_is_known_of_its_training(tmp_path):
    encoder = config_of("w", "out").encoder.build()
    save_encoder(tmp_path / "first", encoder, spacing_mm=[3.0, 3.0, 3.0])
    adapt(config_of(tmp_path / "first", tmp_path / "second", encoder={"in_channels": 4}))
    again, about = load_encoder(tmp_path / "second")
    assert about["spacing_mm"] == [3.0, 3.0, 3.0]
    assert again.config.in_channels == 4
