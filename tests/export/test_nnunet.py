"""Exports for nnU-Net, opened by nnU-Net, by hand, and by our own reader of published weights."""

import importlib
import json
import sys

import pytest
import torch

from medssl.errors import InputError
from medssl.export.formats._nnunet_plan import architecture
from medssl.models.adapt import load_weights
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.foreign import read_weights
from medssl.models.weights import load_decoder, load_encoder
from medssl.runs.digest import digest_file
from tests.export.encoders import exported, write_run

PATCH = {"patch_voxels": (32, 16, 48)}
RESENC_L = UNetEncoder.Config(
    channels=(32, 64, 128, 256, 320, 320),
    depths=(1, 3, 4, 6, 6, 6),
    residual=True,
    decoder_convs=1,
)


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", "unet")


def held_in(artefact):
    return torch.load(artefact / "checkpoint_final.pth", weights_only=True)


def nnunet_network(architecture_plans, channels, classes=3):
    """The network as nnU-Net builds it, called here and not through our own reader."""
    module = importlib.import_module("nnunetv2.utilities.get_network_from_plans")
    return module.get_network_from_plans(
        architecture_plans["arch_class_name"],
        architecture_plans["arch_kwargs"],
        architecture_plans["arch_kwargs_requiring_import"],
        channels,
        classes,
        deep_supervision=True,
    )


def test_the_checkpoint_is_what_nnssl_hands_to_nnunet(tmp_path, run):
    artefact = exported(run, tmp_path / "out", "nnunet", **PATCH, citations=["A. Paper (2026)."])
    assert {path.name for path in artefact.iterdir()} == {
        "checkpoint_final.pth", "adaptation_plan.json", "config.json", "README.md", "LICENSE",
        "provenance.json", "SHA256SUMS",
    }  # fmt: skip
    held = held_in(artefact)
    plan = held["nnssl_adaptation_plan"]
    assert plan["key_to_encoder"] == "encoder.stages"
    assert plan["key_to_stem"] == "encoder.stem"
    assert plan["keys_to_in_proj"] == (
        "encoder.stem.convs.0.conv",
        "encoder.stem.convs.0.all_modules.0",
    )
    assert plan["key_to_lpe"] is None
    assert plan["pretrain_num_input_channels"] == 1
    assert plan["recommended_downstream_patchsize"] == [48, 16, 32]
    assert plan["pretrain_plan"] == {
        "configurations": {"medssl": {"spacing": [2.0, 1.5, 1.0], "patch_size": [16, 24, 32]}}
    }
    assert held["citations"][0]["apa_citations"] == ["A. Paper (2026)."]
    beside = json.loads((artefact / "adaptation_plan.json").read_text())
    assert beside == json.loads(json.dumps(plan))


def test_the_plan_of_resenc_l_is_nnunets_own(tmp_path):
    plans = architecture(RESENC_L)
    with torch.device("meta"):
        network = nnunet_network(plans, 1)
        ours = RESENC_L.build()
    theirs = {
        name: value.shape
        for name, value in network.encoder.state_dict().items()
        if "all_modules" not in name
    }
    assert theirs == {name: value.shape for name, value in ours.net.state_dict().items()}
    assert sum(value.numel() for value in network.parameters()) == pytest.approx(102.4e6, rel=0.01)


def test_nnunets_own_loader_takes_every_tensor(tmp_path, run, capsys):
    artefact = exported(run, tmp_path / "out", "nnunet", **PATCH)
    assert capsys.readouterr().out == ""
    encoder, _ = load_encoder(run)
    network = nnunet_network(held_in(artefact)["nnssl_adaptation_plan"]["architecture_plans"], 1)
    loader = importlib.import_module("nnunetv2.run.load_pretrained_weights")
    loader.load_pretrained_weights(network, str(artefact / "checkpoint_final.pth"))
    state = network.encoder.state_dict()
    for name, value in encoder.net.state_dict().items():
        assert torch.equal(state[name], value), name
        alias = name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")
        assert torch.equal(state[alias], value), alias


def test_every_name_of_nnunets_network_is_there_but_its_layers_of_classes(tmp_path, run):
    held = held_in(exported(run, tmp_path / "out", "nnunet", **PATCH))
    network = nnunet_network(held["nnssl_adaptation_plan"]["architecture_plans"], 1)
    expected = {name for name in network.state_dict() if ".seg_layers." not in name}
    assert held["network_weights"].keys() == expected


@pytest.mark.parametrize(
    ("options", "residual"),
    [
        ({"residual": False, "depths": (1, 2, 2), "decoder_convs": 2}, False),
        ({"dims": 2}, True),
        ({"in_channels": 2, "channels": (4, 4, 8, 8), "depths": (1, 1, 2, 1)}, True),
    ],
)
def test_other_u_nets_open_too(tmp_path, options, residual):
    run = write_run(tmp_path / "run", "unet", **options)
    artefact = exported(run, tmp_path / "out", "nnunet", **PATCH)
    kind = held_in(artefact)["nnssl_adaptation_plan"]["architecture_plans"]["arch_class_name"]
    assert kind.endswith("ResidualEncoderUNet" if residual else "PlainConvUNet")


def test_kernels_turned_round_see_what_nnunet_feeds(tmp_path, run):
    plain = held_in(exported(run, tmp_path / "a", "nnunet", **PATCH))["network_weights"]
    artefact = exported(run, tmp_path / "b", "nnunet", **PATCH, reverse_axes=True)
    turned = held_in(artefact)["network_weights"]
    name = "encoder.stages.1.blocks.0.conv1.conv.weight"
    assert torch.equal(turned[name], plain[name].permute(0, 1, 4, 3, 2))
    verified = json.loads((artefact / "provenance.json").read_text())["verified"]
    assert verified["largest_difference_of_maps"] < 1e-9
    encoder, _ = load_encoder(run)
    network = nnunet_network(held_in(artefact)["nnssl_adaptation_plan"]["architecture_plans"], 1)
    network.load_state_dict(turned, strict=False)
    x = torch.rand(1, 1, 8, 16, 12, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        mine = encoder.eval().features(x)[-1]
        theirs = network.eval().encoder(x.permute(0, 1, 4, 3, 2))[-1]
    torch.testing.assert_close(theirs.permute(0, 1, 4, 3, 2), mine, rtol=1e-4, atol=1e-4)


def test_a_trained_decoder_goes_along(tmp_path):
    run = write_run(tmp_path / "run", "unet", with_decoder=True)
    artefact = exported(run, tmp_path / "out", "nnunet", **PATCH)
    weights = held_in(artefact)["network_weights"]
    encoder, _ = load_encoder(run)
    for name, value in load_decoder(run, encoder).state_dict().items():
        assert torch.equal(weights[f"decoder.{name}"], value)
    assert "decoder: trained beside the encoder" in (artefact / "README.md").read_text()


def test_the_same_encoder_gives_the_same_bytes(tmp_path, run):
    files = [
        exported(run, tmp_path / part, "nnunet", **PATCH) / "checkpoint_final.pth"
        for part in ("a", "b")
    ]
    assert digest_file(files[0]) == digest_file(files[1])


def test_one_tensor_with_many_names_is_written_once(tmp_path, run):
    artefact = exported(run, tmp_path / "out", "nnunet", **PATCH)
    weights = held_in(artefact)["network_weights"]
    once = {value.data_ptr(): value.nbytes for value in weights.values()}
    assert len(weights) > 3 * len(once)
    size = (artefact / "checkpoint_final.pth").stat().st_size
    assert size < 2 * sum(once.values()) + 300 * len(weights)


@pytest.mark.parametrize("channels", [1, 4])
def test_our_own_reader_takes_it_back_and_spreads_the_stem(tmp_path, run, channels):
    artefact = exported(run, tmp_path / "out", "nnunet", **PATCH)
    encoder, _ = load_encoder(run)
    wider = encoder.config.model_copy(update={"in_channels": channels}).build()
    report, decoder = load_weights(wider, read_weights(artefact))
    assert report.share == 1
    assert decoder is not None
    stem = encoder.net.state_dict()["stem.convs.0.conv.weight"]
    found = wider.net.state_dict()["stem.convs.0.conv.weight"]
    assert torch.equal(found, stem.repeat(1, channels, 1, 1, 1) / channels)


def test_nnunets_loader_of_nnssl_checkpoints_spreads_the_stem(tmp_path, run):
    """Where nnU-Net is its main branch; the release of 2.8.1 has no such loader."""
    artefact = exported(run, tmp_path / "out", "nnunet", **PATCH)
    verified = json.loads((artefact / "provenance.json").read_text())["verified"]
    said = verified["more_input_channels"]
    if said.startswith("not asked"):
        pytest.skip("this nnU-Net does not load nnssl's checkpoints")
    assert said == "load_pretrained_weights_dynamic with 1 and 4: equal to the bit"


@pytest.mark.parametrize("name", ["swin_unetr", "segresnet", "vit"])
def test_an_encoder_that_nnunet_does_not_have_names_the_formats_that_fit(tmp_path, name):
    run = write_run(tmp_path / "run", name)
    with pytest.raises(InputError, match=f"nnU-Net has no encoder such as {name}") as error:
        exported(run, tmp_path / "out", "nnunet")
    assert error.value.hint.startswith("formats that fit this run: encoder_folder, onnx, ")
    assert "torch_export" in error.value.hint
    assert ("voco" in error.value.hint) == (name == "swin_unetr")
    assert not (tmp_path / "out").exists()


def test_a_patch_that_does_not_fit_is_explained(tmp_path, run):
    with pytest.raises(InputError, match=r"needs multiples of 4\n  hint: .*\[164, 160, 160\]"):
        exported(run, tmp_path / "out", "nnunet", patch_voxels=(161, 160, 160))


def test_without_nnunet_the_way_to_it_is_told(tmp_path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "nnunetv2.run.load_pretrained_weights", None)
    with pytest.raises(InputError, match=r'nnU-Net is not installed[^"]*"nnunetv2>=2\.8"'):
        exported(run, tmp_path / "out", "nnunet", **PATCH)
    assert not (tmp_path / "out").exists()
