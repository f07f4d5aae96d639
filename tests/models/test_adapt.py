"""Published weights: every layout is read, every tensor is accounted for, no code is run."""

import argparse
import os
import pickle
from collections import OrderedDict
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medssl.errors import InputError
from medssl.models.adapt import load_weights
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.encoders.swin_unetr import SwinUNETREncoder
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.encoders.vit import ViTEncoder
from medssl.models.fitting import inflate, resized_table, spread
from medssl.models.foreign import read_weights
from medssl.models.weights import save_encoder
from tests.models import layouts

CHANNELS = (4, 6, 8)


def swin(**options):
    return SwinUNETREncoder.Config(feature_size=12, **options).build()


def unet(**options):
    given = {"channels": CHANNELS, "depths": (2, 2, 2), **options}
    return UNetEncoder.Config(**given).build()


def load(path, encoder, **options):
    return load_weights(encoder, read_weights(path), **options)


def saved(tmp_path, held, name="weights.pt"):
    torch.save(held, tmp_path / name)
    return tmp_path / name


def check_equal(module, expected):
    """Check that a module holds exactly these tensors."""
    state = module.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


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


WRAPPED = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "network_weights": lambda state: {"network_weights": state},
    "net": lambda state: {"net": state},
    "student": lambda state: {"student": state},
    "teacher": lambda state: {"teacher": state},
    "model": lambda state: {"model": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
    "ema": lambda state: {"ema": state},
    "module.": lambda state: prefixed(state, "module."),
    "backbone.": lambda state: prefixed(state, "backbone."),
    "_orig_mod.": lambda state: prefixed(state, "_orig_mod."),
    "inside": lambda state: {
        k.replace("encoder1.", "encoder1._orig_mod."): v for k, v in state.items()
    },
    "module.student.": lambda state: prefixed(state, "module.student."),
    "several": lambda state: {"state_dict": prefixed(state, "_orig_mod.module.model.")},
    "swin_vit": lambda state: {k.replace("swinViT", "swin_vit"): v for k, v in state.items()},
    "half": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
    "parameters": lambda state: {
        k: torch.nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()
    },
}  # fmt: skip


def prefixed(state, before):
    return OrderedDict((before + name, value) for name, value in state.items())


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_whatever_is_wrapped_around_a_network_is_taken_off(tmp_path, wrapper):
    held, encoder = layouts.voco(), swin()
    report, _ = load(saved(tmp_path, WRAPPED[wrapper](held)), encoder)
    assert len(report.loaded) == 145
    if wrapper == "half":
        held = {k: v.half().float() if v.is_floating_point() else v for k, v in held.items()}
    check_equal(encoder, held)


def test_safetensors_are_read(tmp_path):
    held, encoder = layouts.voco(), swin()
    save_file(held, tmp_path / "model.safetensors")
    load(tmp_path / "model.safetensors", encoder)
    check_equal(encoder, held)


def test_a_file_from_before_zip_is_read(tmp_path):
    held, encoder = layouts.voco(), swin()
    torch.save(held, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    load(tmp_path / "old.pt", encoder)
    check_equal(encoder, held)


def test_what_training_programs_leave_beside_weights_is_passed_over(tmp_path):
    held = layouts.voco()
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight], amsgrad=True)
    weight.sum().backward()
    optimizer.step()
    path = saved(
        tmp_path,
        {
            "state_dict": held,
            "optimizer": optimizer,  # as VoCo's first code saves it: the object
            "args": argparse.Namespace(lr=1e-4),
            "best": np.float64(0.5),
            "where": Path("runs"),
        },
    )
    encoder = swin()
    load(path, encoder)
    check_equal(encoder, held)


class Harmful:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_code_is_refused_unopened(tmp_path, zipped):
    held = {"state_dict": layouts.voco(), "hook": Harmful(tmp_path / "ran")}
    torch.save(held, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"would run code when opened|cannot be read as weights"):
        read_weights(tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


def test_code_behind_a_name_that_is_passed_over_is_not_run(tmp_path):
    class Disguised:
        def __reduce__(self):
            return np.save, (str(tmp_path / "ran"), [1])

    read_weights(saved(tmp_path, {"state_dict": layouts.voco(), "hook": Disguised()}))
    assert not list(tmp_path.glob("ran*"))


def test_a_whole_pickled_model_is_refused_with_words(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"would run code.*torch\.nn\.modules[^Z]*state_dict\(\)"):
        read_weights(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "content", [b"", b"not weights", b"PK\x03\x04 cut off", pickle.dumps({"a": 1})]
)
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_what_holds_no_weights_is_an_input_error(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read as weights|holds no tensors"):
        read_weights(tmp_path / name)


def test_no_file_and_no_tensors_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="no weights there"):
        read_weights(tmp_path)
    with pytest.raises(InputError, match="holds no tensors"):
        read_weights(saved(tmp_path, {"epoch": 3, "state_dict": {}}))


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # torch.jit's
def test_torchscript_is_refused_with_words(tmp_path):
    traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    traced.save(str(tmp_path / "model.ts"))
    with pytest.raises(InputError, match="TorchScript"):
        read_weights(tmp_path / "model.ts")


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


def test_a_stem_of_four_channels_is_the_published_one_repeated_over_four(tmp_path):
    held, encoder = layouts.voco(), swin(in_channels=4)
    report, _ = load(saved(tmp_path, held), encoder)
    stems = ["swinViT.patch_embed.proj.weight", "encoder1.layer.conv1.conv.weight",
             "encoder1.layer.conv3.conv.weight"]  # fmt: skip
    assert report.adapted == dict.fromkeys(stems, "1 to 4 input channels")
    assert report.share == 1
    state = encoder.state_dict()
    for name in stems:
        assert torch.equal(state[name], held[name].repeat(1, 4, 1, 1, 1) / 4)


def test_four_equal_channels_give_what_one_gave(tmp_path):
    one, four = swin().eval(), swin(in_channels=4).eval()
    path = saved(tmp_path, one.state_dict())
    load(path, four)
    x_BCIJK = torch.randn(1, 1, 64, 32, 32)
    torch.testing.assert_close(
        four.embed(x_BCIJK.expand(-1, 4, -1, -1, -1)), one.embed(x_BCIJK), rtol=1e-3, atol=1e-3
    )


def test_a_width_is_never_taken_for_input_channels(tmp_path):
    held = {"network_weights": layouts.nnunet((6, 6, 8))}
    with pytest.raises(InputError, match="only"):
        load(saved(tmp_path, held), unet(channels=(4, 6, 8)))


def test_spread_of_several_channels_keeps_the_answer_to_equal_ones():
    kernel = torch.randn(5, 3, 3, 3, 3, dtype=torch.float64)
    wide = spread(kernel, 7)
    assert wide.shape == (5, 7, 3, 3, 3)
    x = torch.randn(1, 1, 4, 4, 4, dtype=torch.float64)
    conv = torch.nn.functional.conv3d
    torch.testing.assert_close(
        conv(x.expand(-1, 7, -1, -1, -1), wide), conv(x.expand(-1, 3, -1, -1, -1), kernel)
    )


def test_kernels_for_slices_become_kernels_for_volumes(tmp_path):
    flat, encoder = unet(dims=2), unet()
    decoder = flat.decoder()
    save_encoder(tmp_path, flat, decoder=decoder)
    report, read = load(tmp_path, encoder)
    assert report.share == 1
    assert all("2D to 3D" in words for words in report.adapted.values())
    mine, theirs = encoder.state_dict(), flat.state_dict()
    for name in report.adapted:
        expected = theirs[name][..., None].repeat(1, 1, 1, 1, 3) / 3
        torch.testing.assert_close(mine[name], expected)
    assert read is not None


@pytest.mark.parametrize("raising", [False, True])
def test_an_inflated_kernel_answers_to_equal_slices_as_the_flat_one(raising):
    kernel = torch.randn(3, 2, 2, 2, dtype=torch.float64)
    x = torch.randn(1, 3 if raising else 2, 6, 6, dtype=torch.float64)
    volume = x[..., None].expand(-1, -1, -1, -1, 4)
    functional = torch.nn.functional
    flat, deep = (
        (functional.conv_transpose2d, functional.conv_transpose3d)
        if raising
        else (functional.conv2d, functional.conv3d)
    )
    expected = flat(x, kernel, stride=2)
    for level in deep(volume, inflate(kernel, 2, raising=raising), stride=2).unbind(-1):
        torch.testing.assert_close(level, expected)


def test_position_tables_take_another_window(tmp_path):
    held, encoder = layouts.voco(), swin(window=5)
    report, _ = load(saved(tmp_path, held), encoder)
    tables = [name for name in held if name.endswith("bias_table")]
    indices = [name for name in held if name.endswith("position_index")]
    assert {name: report.adapted[name] for name in tables} == dict.fromkeys(
        tables, "window 7 to 5x5x5"
    )
    assert set(report.adapted) == {*tables, *indices}
    state, own = encoder.state_dict(), swin(window=5).state_dict()
    assert all(torch.equal(state[name], own[name]) for name in indices)
    for name in tables[:2]:
        torch.testing.assert_close(state[name], slow_table(held[name], 7, 5), rtol=1e-4, atol=1e-5)


def slow_table(table_PH, old, new):
    """Interpolate a table of relative positions, one distance after the other."""
    old_side, new_side = 2 * old - 1, 2 * new - 1
    grid = table_PH.double().reshape(old_side, old_side, old_side, -1)
    rows = []
    for place in product(range(new_side), repeat=3):
        row = torch.zeros(table_PH.shape[1], dtype=torch.float64)
        for corner in product((0, 1), repeat=3):
            weight, at = 1.0, []
            for p, up in zip(place, corner, strict=True):
                exact = p * (old_side - 1) / (new_side - 1)
                low = min(int(exact), old_side - 2)
                at.append(low + up)
                weight *= (exact - low) if up else 1 - (exact - low)
            row += weight * grid[tuple(at)]
        rows.append(row)
    return torch.stack(rows).float()


def test_a_resized_table_keeps_its_middle_and_its_ends():
    table = torch.arange(13.0**3)[:, None]
    again = resized_table(table, (7, 7, 7), (5, 5, 5))
    assert again.shape == (9**3, 1)
    assert [again[0].item(), again[9**3 // 2].item(), again[-1].item()] == pytest.approx(
        [0, 13**3 // 2, 13**3 - 1]
    )


def vit(**options):
    return ViTEncoder.Config.tiny().model_copy(update={"positions": "learned", **options}).build()


def test_a_table_of_places_takes_another_grid(tmp_path):
    path = saved(tmp_path, vit(learned_grid=4).state_dict())
    same_grid, other = vit(learned_grid=4), vit(learned_grid=6)
    load(path, same_grid)
    report, _ = load(path, other)
    assert report.adapted == {"net.patches.places": "grid 4x4x4 to 6x6x6"}
    theirs = same_grid.state_dict()["net.patches.places"]
    expected = torch.nn.functional.interpolate(theirs, (6, 6, 6), mode="trilinear")
    assert torch.equal(other.state_dict()["net.patches.places"], expected)


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
