"""Labelled patches beside crops: paired by sample, resumed exactly, refused where unfit."""

import dataclasses
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medssl.config.load import validate
from medssl.data.dataset import CropDataset, DatasetConfig
from medssl.data.grid_views import GridViews
from medssl.data.normalize import IntensityConfig
from medssl.data.store import CropStore
from medssl.data.views import LabelledPatches
from medssl.errors import ConfigError
from medssl.labelled.read import read_labelled
from medssl.labelled.splits import LabelledSplitConfig
from medssl.models.weights import load_decoder, load_encoder
from medssl.training import labelled_stream
from medssl.training.labelled_stream import LabelledSource, PairedCollate, open_stream
from medssl.training.patches import PatchAugmentConfig
from medssl.training.pretrain import PretrainConfig, pretrain
from tests.training.stores import write_store

VIEWS = GridViews(grid=(2, 2, 1), crop_voxels=8, random_crops=2)
WANTED = LabelledPatches(classes=3, patch_voxels=8, per_sample=2)
SPLITS = {"test": 0.25, "val": 0.25}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, request) -> Path:
    """Eight of the real cases that ship with the project, by their paths."""
    shipped = Path(request.config.rootpath) / "tests" / "data" / "hippocampus"
    described = json.loads((shipped / "dataset.json").read_text())
    entries = [
        {role: str(shipped / entry[role]) for role in ("image", "label")}
        for entry in described["training"][:8]
    ]
    path = tmp_path_factory.mktemp("labelled") / "dataset.json"
    path.write_text(json.dumps({**described, "training": entries}))
    return path


@pytest.fixture(scope="module")
def stream(store, dataset):
    source = LabelledSource(dataset=dataset, splits=LabelledSplitConfig(**SPLITS))
    return open_stream(source, WANTED, CropStore(store), IntensityConfig())


def pairs(stream, store, part="train", seed=0):
    config = DatasetConfig(split=part)
    crops = CropDataset(CropStore(store), VIEWS, config, samples=100, batch_size=2, seed=seed)
    return stream.pair(crops, part, batch_size=2, seed=seed)


def test_the_patches_of_a_sample_do_not_depend_on_what_was_asked_before(stream, store):
    one, other = pairs(stream, store), pairs(stream, store)
    for index in (7, 0, 3):
        other[index]
    for a, b in zip(one[4][1], other[4][1], strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["label"], b["label"])
    changed = pairs(stream, store, seed=1)[4][1]
    assert not torch.equal(one[4][1][0]["image"], changed[0]["image"])


def test_a_batch_holds_its_samples_views_and_their_patches(stream, store):
    paired = pairs(stream, store)
    pickle.dumps((paired, PairedCollate(VIEWS)))  # as loader processes are given them
    batch = PairedCollate(VIEWS)([paired[2], paired[3]])
    plain = VIEWS.collate([paired.crops[2], paired.crops[3]])
    assert all(map(torch.equal, batch.views_BCIJK, plain.views_BCIJK))
    image_BCIJK, label_BIJK = batch.labelled
    assert image_BCIJK.shape == (4, 1, 8, 8, 8)
    assert image_BCIJK.dtype == torch.float32
    assert label_BIJK.dtype == torch.int64
    assert torch.equal(label_BIJK[2], paired[3][1][0]["label"][0].long())
    assert set(label_BIJK.unique().tolist()) <= {0, 1, 2}


def test_patches_have_the_stores_spacing_and_the_crops_intensities(stream):
    assert stream.preprocessing.spacing_mm == (3.0, 3.0, 3.0)
    assert stream.preprocessing.intensity == IntensityConfig().mr
    volume = stream.pair([None], "val", batch_size=1, seed=0).patches._volumes[0]
    assert max(volume["image"].shape) < 25, "35 to 50 voxels of 1 mm are fewer than 25 of 3 mm"
    assert 0 <= volume["image"].min() < volume["image"].max() <= 1


def test_cases_held_aside_are_never_cut_and_those_that_validate_never_train(stream, store):
    counts = {part: len(pairs(stream, store, part).patches._volumes) for part in ("train", "val")}
    assert counts == {"train": 4, "val": 2}


def test_validation_patches_are_not_augmented(dataset, store):
    loud = PatchAugmentConfig(flip_probability=1, intensity_probability=1, noise_std=0.5)
    quiet = PatchAugmentConfig(flip_probability=0, intensity_probability=0)
    found = []
    for augment in (loud, quiet):
        source = LabelledSource(
            dataset=dataset, splits=LabelledSplitConfig(**SPLITS), augment=augment
        )
        opened = open_stream(source, WANTED, CropStore(store), IntensityConfig())
        found.append(pairs(opened, store, "val")[0][1][0]["image"])
    assert torch.equal(*found)


def test_other_classes_than_the_methods_are_named(dataset, store):
    wanted = WANTED.model_copy(update={"classes": 5})
    with pytest.raises(
        ConfigError, match="3 classes with the background, and the method expects 5"
    ):
        open_stream(LabelledSource(dataset=dataset), wanted, CropStore(store), IntensityConfig())


@pytest.mark.parametrize(
    ("declared", "said"),
    [({"ignore_label": 3}, "an ignored label"), ({"regions": (("both", (1, 2)),)}, "regions")],
)
def test_what_a_pretraining_cannot_learn_from_is_refused(
    dataset, store, monkeypatch, declared, said
):
    labelled = dataclasses.replace(read_labelled(dataset), **declared)
    monkeypatch.setattr(labelled_stream, "read_labelled", lambda _: labelled)
    source = LabelledSource(dataset=dataset, splits=LabelledSplitConfig(**SPLITS))
    with pytest.raises(ConfigError, match=f"declares {said}"):
        open_stream(source, WANTED, CropStore(store), IntensityConfig())


def test_a_data_set_of_no_known_modality_asks_for_one(dataset, store):
    described = json.loads(dataset.read_text())
    unknown = dataset.with_name("unknown.json")
    unknown.write_text(json.dumps({**described, "modality": {"0": "something"}}))
    source = LabelledSource(dataset=unknown)
    with pytest.raises(ConfigError, match="CT or MR"):
        open_stream(source, WANTED, CropStore(store), IntensityConfig())
    told = LabelledSource(dataset=unknown, intensity=IntensityConfig().mr)
    opened = open_stream(told, WANTED, CropStore(store), IntensityConfig())
    assert opened.preprocessing.intensity == IntensityConfig().mr


def tree(store, out, dataset=None, **method):
    labelled = {} if dataset is None else {"labelled": {"dataset": str(dataset), "splits": SPLITS}}
    return {
        "store": str(store),
        "out": str(out),
        "method": {
            "name": "voco_omni",
            "views": VIEWS.model_dump(mode="json"),
            "patches": WANTED.model_dump(mode="json"),
            "hidden_dim": 16,
            "projection_dim": 16,
            **method,
        },
        "encoder": {"name": "segresnet", "width": 4, "blocks": [1, 1]},
        "schedule": {"steps": 20, "warmup_steps": 2},
        "loader": {"volumes_per_batch": 2, "workers": 0, "validation_batches": 2},
        "rhythm": {"record_steps": 1, "validate_steps": 10, "checkpoint_steps": 7},
        "engine": {"accelerator": "cpu"},
        "tracking": {"enabled": False},
        **labelled,
    }


def config_of(values):
    return validate(PretrainConfig, values, where="test")


def test_a_method_that_needs_labels_says_so_and_one_that_does_not_too(store, dataset, tmp_path):
    with pytest.raises(ConfigError, match=r"voco_omni learns from labelled volumes too.*dataset"):
        config_of(tree(store, tmp_path))
    values = tree(store, tmp_path, dataset)
    values["method"] = {"name": "voco"}
    with pytest.raises(ConfigError, match="voco uses no labels"):
        config_of(values)


@pytest.mark.parametrize("mode", ["omni", "semi", "supervised"])
def test_twenty_steps_leave_an_encoder_and_its_decoder(mode, store, dataset, tmp_path):
    result = pretrain(config_of(tree(store, tmp_path / "run", dataset, mode=mode)))
    rows = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    trained = {row["step"]: row for row in rows if "loss" in row}
    assert set(trained) == set(range(1, 21))
    assert all("supervised" in row and "labelled_dice" in row for row in trained.values())
    assert [s for s, row in trained.items() if "pseudo" in row] == (
        [] if mode == "supervised" else list(range(11, 21))
    )
    assert any("val/supervised" in row for row in rows)
    encoder, _ = load_encoder(result.folder)
    decoder = load_decoder(result.folder, encoder)
    maps = decoder(encoder.features(torch.zeros(1, 1, 8, 8, 8)))
    assert maps[-1].shape[2:] == (8, 8, 8)


class StoppedError(Exception):
    pass


def test_resumed_in_the_second_half_ends_with_the_same_bits(store, dataset, tmp_path, monkeypatch):
    """The copy that gives pseudo-labels comes out of the checkpoint, and is not taken anew."""
    from medssl.methods.voco_omni import VoCoOmni

    monkeypatch.setattr("medssl.training.pretrain.rehearse", lambda *_: None)
    before_step = VoCoOmni.before_step
    pretrain(config_of(tree(store, tmp_path / "unbroken", dataset)))

    def stops(self, *, progress):
        if progress >= 0.9:
            raise StoppedError
        before_step(self, progress=progress)

    broken = config_of(tree(store, tmp_path / "broken", dataset))
    with monkeypatch.context() as patched:
        patched.setattr(VoCoOmni, "before_step", stops)
        with pytest.raises(StoppedError):
            pretrain(broken)
    seen = []

    def goes_on(self, *, progress):
        seen.append(progress)
        before_step(self, progress=progress)

    with monkeypatch.context() as patched:
        patched.setattr(VoCoOmni, "before_step", goes_on)
        pretrain(broken)
    assert seen[0] == 0.7
    for name in ("encoder.safetensors", "decoder.safetensors"):
        one, other = (load_file(tmp_path / run / name) for run in ("unbroken", "broken"))
        for key, value in one.items():
            assert torch.equal(value, other[key]), key
