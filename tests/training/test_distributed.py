"""Several processes train as one with the whole batch; every method, picked up by name."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medssl.config.choice import available, find
from medssl.config.load import validate
from medssl.methods.base import ReportMethod
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.training.checkpoint import FOLDER, latest
from medssl.training.launch import joined
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.recorder import read_metrics
from tests.finetuned import write_dataset
from tests.text_folders import tiny_text, write_text_folder
from tests.training.pair_sets import write_maps, write_pair_set
from tests.training.processes import together
from tests.training.stores import write_store

CASES = {
    **{method: (method, []) for method in available("medssl.methods")},
    # without what is drawn for the part of a batch that one process holds
    "swin_pretext": ("swin_pretext", ["method.views.patches.most=0"]),
    # where the crops of one process overlap all others, a bound is known of the whole batch only
    "voco, released": ("voco", ["method.variant=released"]),
    "simclr, mochi": ("simclr", ["method.loss=mochi"]),
    "report_contrast, words": (
        "report_contrast",
        ["method.local=gloria", "method.model.text.train=full", "method.gap_weight=0.5"],
    ),
    "report_contrast, sentences": (
        "report_contrast",
        ["method.local=mama", "method.findings=[nodule]", "method.loss.name=siglip"],
    ),
    "report_contrast, concepts": ("report_contrast", ["method.concepts.ontology=chest_ct"]),
    "report_contrast, maps": (
        "report_contrast",
        [
            "method.organs.organs={pleura: {labels: [7], findings: [pleural_effusion]}}",
            "method.experts={patch_voxels: 8, width: 8, heads: 2}",
        ],
    ),
}
"""Every method, and what of it is drawn for the whole batch: its name and options."""


def config_of(case, store, out, **changes):
    method, options = CASES[case]
    tiny = find("medssl.methods", method).Config.tiny()
    labelled = {"dataset": str(Path(store).parent / "balls" / "dataset.json")}
    grouped = tiny.views.sequences > 1
    tree = {
        "store": str(Path(store).with_name("grouped") if grouped else store),
        "out": str(out),
        "method": tiny.model_dump(mode="json"),
        "labelled": labelled if tiny.labelled_patches else None,
        "encoder": SegResNetEncoder.Config.tiny().model_dump(mode="json"),
        "optimizer": {"name": "sgd", "lr": 0.01, "weight_decay": 0.01, "clip_norm": 1.0},
        "schedule": {"samples": 12, "warmup_samples": 4},
        "loader": {"volumes_per_batch": 4, "workers": 0, "validation_batches": 1},
        "rhythm": {"record_steps": 1, "validate_steps": 2, "checkpoint_steps": 2},
        "engine": {"accelerator": "cpu", "precision": "64-true"},
        "tracking": {"enabled": False},
    }
    if isinstance(tiny, ReportMethod.Config):
        data = Path(store).parent
        tree["pairs"] = {"folder": str(data / "pairs")}
        if "maps" in case:
            tree["pairs"] |= {"organ_maps": str(data / "maps"), "heat_maps": str(data / "maps")}
        tree["method"]["model"]["text"] = tiny_text(data / "text").model_dump(mode="json")
    return validate(PretrainConfig, tree | changes, where="test", overrides=options)


def train(cases, store, folder):
    for case in cases:
        pretrain(config_of(case, store, Path(folder) / case))


def weights(run):
    state = torch.load(latest(run / FOLDER).path, weights_only=True)["state_dict"]
    return state | load_file(run / "encoder.safetensors")


def assert_alike(one, several, tolerance=1e-6):
    assert weights(one).keys() == weights(several).keys()
    for name, value in weights(one).items():
        difference = (value.double() - weights(several)[name].double()).abs().max()
        assert difference <= tolerance, (name, float(difference))
    rows, same = read_metrics(one / "metrics.jsonl"), read_metrics(several / "metrics.jsonl")
    assert len(rows) == 4  # three steps and one validation
    for row, other in zip(rows, same, strict=True):
        assert row.keys() == other.keys()
        for name in {"loss", "val/loss"} & row.keys():
            assert other[name] == pytest.approx(row[name], abs=1e-5)
        for name in row:
            if "voco" in str(one) and name.endswith("_constant"):
                assert other[name] == pytest.approx(row[name], abs=1e-9), name


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A crop store, one of several volumes on each grid, and labelled volumes beside them."""
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder / "balls", cases=4)
    write_store(folder / "grouped", train=12, val=12, per_group=3)
    write_pair_set(folder / "pairs", val=4)
    write_maps(folder / "maps")
    write_text_folder(folder / "text")
    return write_store(folder / "store", val=4)


@pytest.fixture(scope="module")
def two(store, tmp_path_factory):
    """Every method, trained by two processes that are started once for all of them."""
    folder = tmp_path_factory.mktemp("two")
    together(2, __file__, store, folder, *CASES)
    return folder


@pytest.mark.slow  # of what they are made of, tests/losses and tests/models ask each time
@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_one_with_the_whole_batch(case, store, two, tmp_path):
    train([case], store, tmp_path)
    assert_alike(tmp_path / case, two / case)


@pytest.mark.slow
def test_four_processes_are_one_with_the_whole_batch(store, tmp_path):
    together(4, __file__, store, tmp_path / "four", "voco")
    train(["voco"], store, tmp_path / "one")
    assert_alike(tmp_path / "one" / "voco", tmp_path / "four" / "voco")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined(gpu=False):
        train(sys.argv[3:], *sys.argv[1:3])
