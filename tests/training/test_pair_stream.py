"""Studies with their reports: checked, split, learned from, resumed, saved and read again."""

import json

import pytest
import torch
from safetensors.torch import load_file

from medssl.config.load import validate
from medssl.data.normalize import IntensityConfig
from medssl.data.store import CropStore
from medssl.errors import ConfigError, InputError
from medssl.methods.report_contrast import ReportContrast
from medssl.models.image_text_folder import load_image_text
from medssl.models.weights import load_encoder
from medssl.reports.pairs import read_pairs, write_pairs
from medssl.training.pair_stream import PairSource, check_reports_wanted, open_pairs, with_maps
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.text_states import FILE, sentence_states, write_states
from tests.text_folders import tiny_text
from tests.training.pair_sets import FINDINGS, write_maps, write_pair_set
from tests.training.stores import write_store

MODEL = {"dim": 8, "reading": {"keep_sentence": 0.7}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_store(folder / "store")
    write_pair_set(folder / "pairs")
    tiny_text(folder / "text")
    return folder


def config(data, out, *overrides, **changes):
    text = tiny_text(data / "text").model_dump(mode="json")
    tree = {
        "store": str(data / "store"),
        "pairs": {"folder": str(data / "pairs")},
        "out": str(out),
        "method": {
            "name": "report_contrast",
            "views": {"crop_voxels": 16},
            "model": {**MODEL, "text": text},
        },
        "encoder": {"name": "segresnet", "width": 4, "blocks": [1, 1, 1]},
        "loader": {"volumes_per_batch": 3, "workers": 0, "validation_batches": 1},
        "schedule": {"steps": 6, "warmup_steps": 1},
        "rhythm": {"record_steps": 1, "validate_steps": 3, "checkpoint_steps": 2},
        "engine": {"accelerator": "cpu"},
        "tracking": {"enabled": False},
    }
    return validate(PretrainConfig, tree | changes, where="test", overrides=overrides)


def method_of(data, **options):
    return ReportContrast.Config(
        model={**MODEL, "text": tiny_text(data / "text").model_dump(mode="json")}, **options
    )


def opened(data, folder, batch_size=3, **options):
    return open_pairs(
        PairSource(folder=folder),
        method_of(data, **options),
        CropStore(data / "store"),
        IntensityConfig(),
        batch_size=batch_size,
    )


def test_a_run_leaves_a_model_that_needs_nothing_else(data, tmp_path):
    result = pretrain(config(data, tmp_path / "run"))
    assert {"val/multi_positive", "val/false_negative_rate"} <= set(result.summary)
    model, about = load_image_text(tmp_path / "run")
    assert about["spacing_mm"] == [3.0, 3.0, 3.0]
    assert about["method"]["views"]["crop_voxels"] == 16
    assert model.embed_texts(["A nodule in the left lung."]).shape == (1, 8)
    encoder, _ = load_encoder(tmp_path / "run")
    x = torch.rand(1, 1, 16, 16, 16)
    assert torch.equal(encoder.eval().embed(x), model.encoder.embed(x))


@pytest.mark.parametrize("train", ["frozen", "full"])
def test_an_interrupted_run_ends_with_the_same_bits(data, tmp_path, train):
    text = f"method.model.text.train={train}"
    pretrain(config(data, tmp_path / "whole", text))
    pretrain(config(data, tmp_path / "part", text))
    for kept in (tmp_path / "part" / "checkpoints").glob("step-*6.ckpt"):
        kept.unlink()
    manifest = tmp_path / "part" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"finished"', '"running"'))
    pretrain(config(data, tmp_path / "part", text))
    for name in ("encoder.safetensors", "text.safetensors", "heads.safetensors"):
        one, two = (load_file(tmp_path / run / name) for run in ("whole", "part"))
        assert all(torch.equal(one[key], two[key]) for key in one), name


def test_a_frozen_text_encoder_reads_each_sentence_once(data, tmp_path, monkeypatch):
    pretrain(config(data, tmp_path / "run"))
    stream = opened(data, data / "pairs")
    (kept,) = load_file(tmp_path / "run" / FILE).values()
    text = method_of(data).model.text.build()
    expected = text.embed(stream.text.sentences)
    torch.testing.assert_close(kept, expected, rtol=0, atol=1e-5)
    monkeypatch.setattr("medssl.training.text_states.sentence_states", None)
    tokens = (stream.facts.token_UL, stream.facts.token_mask_UL)
    write_states(tmp_path / "run" / FILE, text, *tokens, stream.digest)  # they are there


def test_states_of_damaged_files_are_made_again(data, tmp_path):
    stream, text = opened(data, data / "pairs"), method_of(data).model.text.build()
    tokens = (stream.facts.token_UL, stream.facts.token_mask_UL)
    (tmp_path / FILE).write_bytes(b"damaged")
    write_states(tmp_path / FILE, text, *tokens, stream.digest)
    (kept,) = load_file(tmp_path / FILE).values()
    assert torch.equal(kept, sentence_states(text, *tokens))


def test_labels_that_are_asked_for_come_first(data):
    stream = opened(data, data / "pairs", findings=("nodule",))
    first = next(n for n, p in enumerate(stream.pairs) if p.labels == {"effusion": 0, "nodule": 1})
    assert stream.facts.label_SF[first].tolist() == [1, 0]
    with pytest.raises(InputError, match="no labels about mass"):
        opened(data, data / "pairs", findings=("mass",))


def test_studies_that_cannot_be_learned_from_are_counted(data, tmp_path, caplog):
    pairs = list(read_pairs(data / "pairs").pairs)
    pairs[0] = pairs[0].model_copy(update={"volume_keys": ("elsewhere",)})
    pairs[1] = pairs[1].model_copy(update={"sections": ()})
    write_pairs(tmp_path, pairs, FINDINGS)
    stream = opened(data, tmp_path)
    assert len(stream.pairs) == 6
    assert "1 studies are left out: the store lacks" in caplog.text
    assert "1 studies are left out: their reports say nothing" in caplog.text
    with pytest.raises(InputError, match="4 of 8 studies can be learned from, and a batch has 5"):
        opened(data, tmp_path, batch_size=5)


def test_pairs_and_a_method_that_reads_reports_belong_together(data, tmp_path):
    with pytest.raises(ConfigError, match="learns from reports, and none are named"):
        config(data, tmp_path, pairs=None)
    with pytest.raises(ConfigError, match="simclr reads no reports"):
        config(data, tmp_path, method={"name": "simclr"})


def test_no_report_is_in_what_a_run_writes(data, tmp_path):
    pretrain(config(data, tmp_path / "run"))
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file() and path.name != "tokenizer.json":
            assert b"Large effusion" not in path.read_bytes(), path
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["inputs"]["pairs"]


MAPS = {
    "organs": {"organs": {"pleura": {"labels": [7], "findings": ["pleural_effusion"]}}},
    "experts": {"patch_voxels": 8, "width": 8, "heads": 2},
}


@pytest.mark.parametrize(("option", "folder"), [("organs", "organ_maps"), ("experts", "heat_maps")])
def test_maps_and_what_asks_for_them_need_each_other(data, option, folder):
    wants = method_of(data, **{option: MAPS[option]})
    with pytest.raises(ValueError, match=rf"method\.{option} is set and pairs\.{folder} is not"):
        check_reports_wanted(wants, PairSource(folder=data))
    with pytest.raises(ValueError, match=rf"pairs\.{folder} is set and method\.{option} is not"):
        check_reports_wanted(method_of(data), PairSource(folder=data, **{folder: data}))
    check_reports_wanted(wants, PairSource(folder=data, **{folder: data}))


def test_a_batch_brings_the_maps_of_its_volumes(data, tmp_path):
    maps = write_maps(tmp_path / "maps")
    method = method_of(data, **MAPS)
    stream = open_pairs(
        PairSource(folder=data / "pairs", organ_maps=maps, heat_maps=maps),
        method,
        CropStore(data / "store"),
        IntensityConfig(),
        batch_size=3,
    )
    assert set(stream.inputs) == {"pairs", "organ_maps", "heat_maps"}
    stream = with_maps(stream, tmp_path / "run")
    dataset, collate = stream.open(method.views, "val", batch_size=2, seed=0)
    batch = collate([dataset[0], dataset[1]])
    for name, most in (("organ_NIJK", 1.0), ("heat_NIJK", 1.0)):
        assert batch.geometry[name].shape == batch.views_BCIJK[0][:, 0].shape
        assert batch.geometry[name].amax((1, 2, 3)).tolist() == [most, most]


def test_a_folder_without_maps_of_the_volumes_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="no file is named by a volume or a study"):
        open_pairs(
            PairSource(folder=data / "pairs", organ_maps=tmp_path),
            method_of(data, organs=MAPS["organs"]),
            CropStore(data / "store"),
            IntensityConfig(),
            batch_size=3,
        )
