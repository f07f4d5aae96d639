"""Published weights: every layout is loaded, and every tensor is accounted for."""

import pytest
import torch

from medssl.errors import InputError
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.weights import save_encoder
from tests.models import layouts
from tests.models.layouts import check_equal, load, saved, swin, unet


def test_vocos_encoders_are_loaded_whole(tmp_path):
    held, encoder = layouts.voco(), swin()
    report, decoder = load(saved(tmp_path, held), encoder)
    assert report.counts() == {
        "loaded": 145, "adapted": 0, "missing": 0, "mismatched": 0, "unused": 0,
    }  # fmt: skip
    assert report.share == 1
    assert decoder is None
    assert report.decoder == "none in the file"
    check_equal(encoder, held)


def test_vocomni_brings_its_decoder_and_leaves_its_classes(tmp_path):
    held, encoder = layouts.vocomni(), swin()
    assert len(held) == 167
    report, decoder = load(saved(tmp_path, held), encoder)
    assert len(report.loaded) == 145
    assert report.unused == ("out.conv.conv.weight", "out.conv.conv.bias")
    assert report.decoder == "taken whole, 20 tensors"
    check_equal(decoder, {k: v for k, v in held.items() if k.startswith("decoder")})
    _, without = load(tmp_path / "weights.pt", swin(), with_decoder=False)
    assert without is None


def test_of_two_networks_one_must_be_named(tmp_path):
    path = saved(tmp_path, layouts.voco_10k_training())
    with pytest.raises(
        InputError, match=r"several copies.*state_dict\.student, state_dict\.teacher"
    ):
        load(path, swin())
    for seed, part in enumerate(("student", "teacher")):
        encoder = swin()
        report, _ = load(path, encoder, part=part)
        assert report.found_at == f"state_dict.{part}."
        check_equal(encoder, layouts.voco(seed=seed))
    with pytest.raises(InputError, match=r"no part called 'ema'[^Z]*state_dict\.student"):
        load(path, swin(), part="ema")


def test_projectors_are_not_mistaken_for_the_network(tmp_path):
    encoder = swin()
    report, _ = load(saved(tmp_path, layouts.large_scale_training()), encoder)
    check_equal(encoder, layouts.voco())
    assert report.unused == (
        "state_dict.student.layer1.0.weight",
        "state_dict.teacher.layer1.0.weight",
    )


@pytest.mark.parametrize("layout", [layouts.nvidia, layouts.nvidia_ssl_head])
def test_nvidias_transformer_is_a_part_of_the_encoder(tmp_path, layout):
    path, encoder = saved(tmp_path, layout()), swin(use_v2=False)
    with pytest.raises(InputError, match=r"set min_loaded to 0\.\d+ if the rest may"):
        load(path, encoder)
    report, _ = load(path, encoder, min_loaded=0.1)
    expected = {k: v for k, v in layouts.voco().items() if "c.0.layer" not in k}
    state = encoder.state_dict()
    transformer = [name for name in expected if name.startswith("swinViT.")]
    assert set(report.loaded) == set(transformer)
    assert all(torch.equal(state[name], expected[name]) for name in transformer)
    assert set(report.missing) == expected.keys() - set(transformer)


def test_nvidias_layout_is_the_one_that_monai_reads(tmp_path):
    from monai.networks.nets.swin_unetr import SwinUNETR

    theirs = SwinUNETR(in_channels=1, out_channels=2, feature_size=12)
    theirs.load_from(layouts.nvidia())
    encoder = swin(use_v2=False)
    load(saved(tmp_path, layouts.nvidia()), encoder, min_loaded=0.1)
    check_equal(encoder.swinViT, theirs.swinViT.state_dict())


@pytest.mark.parametrize("residual", [True, False])
def test_nnunets_aliases_are_one_tensor(tmp_path, residual):
    held = {"network_weights": layouts.nnunet(residual=residual), "init_args": {"folds": [0]}}
    depths = (1, 1, 1) if residual else (2, 2, 2)
    encoder = unet(residual=residual, depths=depths, decoder_convs=1 if residual else 2)
    report, decoder = load(saved(tmp_path, held), encoder)
    assert report.share == 1
    assert report.found_at == "network_weights.encoder."
    assert all("seg_layers" in name for name in report.unused)
    assert decoder is not None
    state, theirs = encoder.net.state_dict(), held["network_weights"]
    assert all(torch.equal(value, theirs[f"encoder.{name}"]) for name, value in state.items())
    for name, value in decoder.state_dict().items():
        assert torch.equal(value, theirs[f"decoder.{name}"])


def test_the_released_nnunet_has_292_names_of_108_tensors():
    channels = (32, 64, 128, 256, 320, 320)
    with torch.device("meta"):
        state = layouts.nnunet(channels)
    assert len(state) == 292
    encoder = {k: v for k, v in state.items() if k.startswith("encoder.") and "all_" not in k}
    assert sum(value.numel() for value in encoder.values()) == 14_025_120
    unique = {name.replace("decoder.encoder.", "encoder.") for name in state if "all_" not in name}
    assert len(unique) == 108


def test_a_coarse_stage_is_not_taken_for_the_decoder_that_it_outweighs(tmp_path):
    channels = (2, 4, 8, 32)
    held = {"network_weights": layouts.nnunet(channels)}
    encoder = unet(channels=channels, depths=(2, 2, 2, 2))
    report, decoder = load(saved(tmp_path, held), encoder)
    assert decoder is not None, report.decoder
    theirs = held["network_weights"]
    for name, value in decoder.state_dict().items():
        assert torch.equal(value, theirs[f"decoder.{name}"])


def test_nnssls_dictionary_is_read(tmp_path):
    held = layouts.nnssl()
    encoder = unet(residual=True, depths=(1, 1, 1))
    report, _ = load(saved(tmp_path, held, "checkpoint_final.pth").parent, encoder)  # the folder
    assert report.share == 1
    assert report.source == "checkpoint_final.pth"


def test_a_monai_bundle_is_read(tmp_path):
    torch.manual_seed(0)
    source = SegResNetEncoder.Config(width=4, blocks=(1, 1)).build()
    network, _ = source.segmenter(3)
    (tmp_path / "models").mkdir()
    torch.save(network.state_dict(), tmp_path / "models" / "model.pt")
    encoder = SegResNetEncoder.Config(width=4, blocks=(1, 1)).build()
    report, decoder = load(tmp_path, encoder)
    check_equal(encoder, source.state_dict())
    assert decoder is not None
    assert report.share == 1
    assert report.found_at == "encoder."


def test_our_own_folder_is_read_with_its_decoder(tmp_path):
    source = unet(depths=(1, 1, 1))
    decoder = source.decoder()
    save_encoder(tmp_path, source, decoder=decoder)
    encoder = unet(depths=(1, 1, 1))
    report, read = load(tmp_path, encoder)
    check_equal(encoder, source.state_dict())
    check_equal(read, decoder.state_dict())
    assert not report.unused


def test_the_encoders_own_tensors_are_not_taken_for_a_decoders(tmp_path):
    source = unet(depths=(1, 1, 1), channels=(4, 4, 4), decoder_convs=1)
    report, decoder = load(
        saved(tmp_path, {"state_dict": source.state_dict()}),
        unet(depths=(1, 1, 1), channels=(4, 4, 4), decoder_convs=1),
    )
    assert decoder is None
    assert report.decoder == "none in the file"


def test_another_size_is_refused_with_the_shapes_and_nothing_is_changed(tmp_path):
    path, encoder = saved(tmp_path, layouts.voco(24)), swin()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load(path, encoder)
    words = str(caught.value)
    assert "only 5.6% of the encoder's parameters fit, 90.0% are asked for" in words
    assert "(24, 1, 2, 2, 2) in the file, (12, 1, 2, 2, 2) here" in words
    assert "set the encoder's options to those of the file" in words
    check_equal(encoder, before)


def test_another_network_is_refused(tmp_path):
    with pytest.raises(InputError, match="the file is of another network"):
        load(saved(tmp_path, layouts.nnunet()), swin())


def test_blocks_of_v2_that_the_encoder_does_not_have_are_unused(tmp_path):
    report, _ = load(saved(tmp_path, layouts.voco()), swin(use_v2=False))
    assert report.share == 1
    assert len(report.unused) == 8
    assert all("c.0.layer.conv" in name for name in report.unused)


def test_the_report_is_one_table(tmp_path):
    report, _ = load(saved(tmp_path, layouts.vocomni(), "VoComni_B.pt"), swin(in_channels=2))
    assert str(report).splitlines() == [
        "VoComni_B.pt",
        "  loaded       142",
        "  adapted        3",
        f"      1 to 2 input channels (3): {', '.join(report.adapted)}",
        "  missing        0",
        "  mismatched     0",
        "  unused         2",
        "      out.conv (2)",
        f"  parameters  {report.parameters:,} of {report.parameters:,} (100.0%)",
        "  decoder     taken whole, 20 tensors",
    ]
    assert report.as_json()["share"] == 1


def test_a_refusal_tells_only_what_is_so(tmp_path):
    held = layouts.vocomni()
    del held["encoder10.layer.conv1.conv.weight"]
    with pytest.raises(InputError) as caught:
        load(saved(tmp_path, held), swin())
    words = str(caught.value)
    assert f"  unused     {len(layouts.decoder_table(12)) + 2:>5}\n" in words
    assert "      decoder5.transp_conv (1)\n" in words
    assert "  decoder     not looked for" in words
    with pytest.raises(InputError, match=r"unused +[1-9]"):
        load(saved(tmp_path, layouts.nnunet()), swin())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused_and_nothing_is_changed(tmp_path, value):
    held, encoder = layouts.vocomni(), swin()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    for name in ("encoder1.layer.conv1.conv.weight", "decoder1.conv_block.conv1.conv.weight"):
        good = held[name].clone()
        held[name].view(-1)[3] = value
        with pytest.raises(InputError, match=rf"not numbers, such as {name}\n.*diverged"):
            load(saved(tmp_path, held), encoder)
        check_equal(encoder, before)
        held[name] = good
    held["out.conv.conv.bias"][0] = value  # nothing is taken from it
    load(saved(tmp_path, held), encoder)
