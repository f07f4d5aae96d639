"""Exports in VoCo's layout: its table of names and shapes, MONAI, and its scripts' way to load."""

from collections import OrderedDict

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR

from medssl.errors import InputError
from medssl.models.adapt import load_weights
from medssl.models.encoders.swin_unetr import SwinUNETREncoder
from medssl.models.foreign import read_weights
from medssl.models.weights import load_decoder, load_encoder
from medssl.tasks.segmentation import Segmentation
from medssl.training.task_model import ModelDescription, save_task_model
from tests.export.bundles import config
from tests.export.encoders import exported, write_run
from tests.finetuned import finetuned
from tests.models import layouts


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", "swin_unetr")


def held_in(artefact):
    return torch.load(artefact / "voco.pt", weights_only=True)


def write_task_model(folder, *, size=12):
    """Write a Swin UNETR of 21 classes as a finetuning leaves it."""
    torch.manual_seed(3)
    labels = ("background", *(f"organ {number}" for number in range(1, 21)))
    task = Segmentation.Config().build(labels=labels)
    encoder = SwinUNETREncoder.Config(feature_size=size).build()
    network, network_def = task.network(encoder)
    description = ModelDescription(
        title="Organs",
        task=task.config.model_dump(mode="json"),
        encoder=encoder.config.model_dump(mode="json"),
        network_def=network_def,
        labels=labels,
        modality="CT",
        spacing_mm=(1.5, 1.5, 1.5),
        patch_voxels=(64, 64, 64),
        preprocessing=(),
        inferer={},
        postprocessing=(),
    )
    folder.mkdir()
    save_task_model(folder, network, description)
    return network


def load_as_vocos_scripts_do(network, held):
    """Fill ``network`` as the common routine of VoCo's downstream code does; count what fits."""
    state = next(
        (held[k] for k in ("state_dict", "network_weights", "net", "student") if k in held), held
    )
    if "module." in next(iter(state)):
        state = {name.replace("module.", ""): value for name, value in state.items()}
    state = {name.replace("backbone.", ""): value for name, value in state.items()}
    if "swin_vit" in next(iter(state)):
        state = {name.replace("swin_vit", "swinViT"): value for name, value in state.items()}
    own = network.state_dict()
    fits = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict({**own, **fits}, strict=True)
    return len(fits)


@pytest.mark.parametrize(
    ("size", "parameters"), [(48, 53_164_146), (96, 211_999_362), (192, 847_276_194)]
)
def test_the_published_sizes_have_the_published_table(size, parameters):
    with torch.device("meta"):
        encoder = SwinUNETREncoder.Config(feature_size=size).build()
    table = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    assert table == layouts.swin_table(size)
    assert len(table) == 145
    assert sum(value.numel() for value in encoder.parameters()) == parameters
    assert not {"use_v2", "window"} & set(encoder.config.model_fields_set)


def test_an_encoder_is_145_tensors_in_one_flat_dictionary(tmp_path, run):
    artefact = exported(run, tmp_path / "out", "voco")
    held = held_in(artefact)
    assert type(held) is OrderedDict
    assert next(iter(held)) == "swinViT.patch_embed.proj.weight"
    assert {name: tuple(v.shape) for name, v in held.items()} == layouts.swin_table(12)
    kinds = {torch.int64 if name.endswith("index") else torch.float32 for name in held}
    assert {value.dtype for value in held.values()} == kinds
    assert len({value.untyped_storage().data_ptr() for value in held.values()}) == 145
    assert all(v.is_contiguous() and v.storage_offset() == 0 for v in held.values())
    encoder, _ = load_encoder(run)
    assert all(torch.equal(held[name], value) for name, value in encoder.state_dict().items())


def test_a_trained_decoder_goes_along(tmp_path):
    run = write_run(tmp_path / "run", "swin_unetr", with_decoder=True)
    held = held_in(exported(run, tmp_path / "out", "voco"))
    assert {n: tuple(v.shape) for n, v in held.items()} == {
        **layouts.swin_table(12), **layouts.decoder_table(12),
    }  # fmt: skip
    encoder, _ = load_encoder(run)
    decoder = load_decoder(run, encoder).state_dict()
    assert all(torch.equal(held[name], value) for name, value in decoder.items())


def test_a_finetuned_network_is_vocomnis_167_tensors(tmp_path):
    network = write_task_model(tmp_path / "model")
    artefact = exported(tmp_path / "model", tmp_path / "out", "voco")
    held = held_in(artefact)
    published = layouts.vocomni(12)
    assert {n: v.shape for n, v in held.items()} == {n: v.shape for n, v in published.items()}
    assert list(held) == list(SwinUNETR(1, 21, feature_size=12, use_v2=True).state_dict())
    assert all(torch.equal(held[name], value) for name, value in network.state_dict().items())
    assert "organ 20" in (artefact / "config.json").read_text()


@pytest.mark.parametrize(("classes", "fitting"), [(21, 167), (3, 165)])
def test_vocos_scripts_load_all_that_fits(tmp_path, classes, fitting):
    write_task_model(tmp_path / "model")
    held = held_in(exported(tmp_path / "model", tmp_path / "out", "voco"))
    network = SwinUNETR(1, classes, feature_size=12, use_v2=True)
    assert load_as_vocos_scripts_do(network, held) == fitting


def test_our_own_reader_takes_it_back(tmp_path, run):
    artefact = exported(run, tmp_path / "out", "voco")
    encoder, _ = load_encoder(run)
    other = encoder.config.build()
    report, _ = load_weights(other, read_weights(artefact / "voco.pt"))
    assert report.counts()["loaded"] == 145
    mine = encoder.state_dict()
    assert all(torch.equal(mine[name], value) for name, value in other.state_dict().items())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"use_v2": False}, r"use_v2 False \(here True\)"),
        ({"window": 4}, r"window 4 \(here 7\)"),
        ({"depths": (2, 2, 6, 2), "dims": 2}, r"dims 2 \(here 3\), depths \(2, 2, 6, 2\)"),
    ],
)
def test_another_swin_unetr_is_refused(tmp_path, options, said):
    run = write_run(tmp_path / "run", "swin_unetr", **options)
    with pytest.raises(InputError, match=said):
        exported(run, tmp_path / "out", "voco")


def test_other_encoders_are_refused(tmp_path):
    run = write_run(tmp_path / "run", "unet")
    with pytest.raises(InputError, match="unet is no Swin UNETR") as error:
        exported(run, tmp_path / "out", "voco")
    named = error.value.hint.removeprefix("formats that fit this run: ").split(", ")
    assert named == ["encoder_folder", "nnunet", "onnx", "torch_export"]
    with pytest.raises(InputError, match="segresnet is no Swin UNETR") as error:
        exported(finetuned() / "pretrained", tmp_path / "out", "voco")
    assert error.value.hint == "formats that fit this run: monai_bundle, onnx, torch_export"
    assert not config(tmp_path / "out", run=run).out.exists()
