"""Plans of every method and every configuration: right where it can be counted by hand."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from medssl.config.choice import available, find
from medssl.config.load import load, validate
from medssl.errors import ConfigError
from medssl.methods.base import ReportMethod
from medssl.training.plan import plan
from medssl.training.pretrain import PretrainConfig
from medssl.training.rehearsal import noise_batch
from tests.training.stores import write_store

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs" / "pretrain").glob("*.yaml"))
GIB = 2**30


def config(tmp_path, name, **sections):
    from medssl.models.encoders.segresnet import SegResNetEncoder

    tiny = find("medssl.methods", name).Config.tiny()
    values = {
        "store": str(tmp_path / "store"),
        "out": str(tmp_path / "run"),
        "method": tiny.model_dump(mode="json"),
        "encoder": SegResNetEncoder.Config.tiny().model_dump(mode="json"),
        "loader": {"volumes_per_batch": 2},
        "schedule": {"steps": 10, "warmup_steps": 1},
    }
    if tiny.labelled_patches is not None:
        values["labelled"] = {"dataset": str(tmp_path / "dataset.json")}
    if isinstance(tiny, ReportMethod.Config):
        values["pairs"] = {"folder": str(tmp_path / "pairs")}
    return validate(PretrainConfig, values | sections, where="test")


@pytest.mark.parametrize("name", available("medssl.methods"))
def test_every_method_has_a_plan_and_nothing_is_left(name, tmp_path):
    found = plan(config(tmp_path, name))
    assert 0 < found.encoder_parameters <= found.trained_parameters <= found.parameters
    assert found.flops_per_step > 0
    assert found.fits
    assert found.samples == 20
    assert found.epochs is None
    assert json.loads(json.dumps(found.as_json()))["hours"] > 0
    assert not list(tmp_path.iterdir())


def test_maps_and_concepts_cost_something(tmp_path):
    plain = config(tmp_path, "report_contrast")
    organs = {"organs": {"lung": {"labels": [1], "findings": ["lung_nodule"]}}}
    experts = {"patch_voxels": 8, "width": 8, "heads": 2}
    method = plain.method.model_dump(mode="json")
    more = config(
        tmp_path,
        "report_contrast",
        method=method | {"organs": organs, "experts": experts, "concepts": {}},
        pairs={"folder": "pairs", "organ_maps": "organs", "heat_maps": "heat"},
    )
    one, two = plan(plain), plan(more)
    assert two.flops_per_step > one.flops_per_step
    assert two.trained_parameters > one.trained_parameters


def test_numbers_are_those_of_the_step_as_it_is_computed(tmp_path):
    options = config(tmp_path, "simclr", loader={"volumes_per_batch": 4})
    found = plan(options)
    torch.manual_seed(0)
    method = options.method.build(encoder=options.encoder.build())
    batch = noise_batch(method, 4, options.method)
    with FlopCounterMode(display=False) as counted:
        method.loss(batch, progress=0.0).total.backward()
    assert found.flops_per_step == counted.get_total_flops()
    weights = sum(p.numel() for p in method.parameters() if p.requires_grad)
    assert found.trained_parameters == weights
    assert found.memory_gib["gradients"] == pytest.approx(4 * weights / GIB)
    assert found.memory_gib["optimiser"] == pytest.approx(8 * weights / GIB, rel=0.01)
    assert found.memory_gib["total"] == pytest.approx(
        sum(v for k, v in found.memory_gib.items() if k != "total")
    )


def test_accumulation_multiplies_work_but_not_memory(tmp_path):
    once = plan(config(tmp_path, "voco"))
    thrice = plan(config(tmp_path, "voco", engine={"accumulate": 3}))
    assert thrice.flops_per_step == 3 * once.flops_per_step
    assert thrice.memory_gib == once.memory_gib
    assert thrice.samples == 3 * once.samples


def test_recomputed_stages_hold_less_and_compute_more(tmp_path):
    sections = {
        "method": {"name": "simclr", "views": {"crop_voxels": 32}},
        "encoder": {"name": "segresnet", "width": 8, "blocks": [2, 2, 2]},
    }
    plain = plan(config(tmp_path, "simclr", **sections))
    again = plan(config(tmp_path, "simclr", **sections, engine={"checkpoint_activations": True}))
    assert again.memory_gib["activations"] < plain.memory_gib["activations"]
    assert again.flops_per_step > 1.1 * plain.flops_per_step


def test_half_precision_moves_and_holds_less(tmp_path):
    single = plan(config(tmp_path, "simclr"))
    half = plan(config(tmp_path, "simclr", engine={"precision": "bf16-mixed"}))
    assert half.flops_per_step == single.flops_per_step
    assert half.memory_gib["activations"] < single.memory_gib["activations"]
    assert "half-precision" in half.assumed


def test_passes_are_counted_where_there_is_a_store(tmp_path):
    write_store(tmp_path / "store", train=4, val=1)
    assert plan(config(tmp_path, "voco")).epochs == 5


def test_devices_share_the_batch(tmp_path):
    alone = plan(config(tmp_path, "voco"))
    shared = plan(config(tmp_path, "voco", engine={"devices": 2, "accelerator": "cpu"}))
    assert shared.devices == 2
    assert 2 * shared.crops_per_step == alone.crops_per_step
    assert shared.samples == alone.samples


def test_a_faster_card_takes_less_and_a_full_one_does_not_fit(tmp_path):
    slow, fast = (
        plan(config(tmp_path, "voco", plan={"gpu": name, "launch_us": 0}))
        for name in ("t4", "h100")
    )
    assert slow.hours > 3 * fast.hours
    assert not plan(config(tmp_path, "voco", plan={"gpu": "t4", "reserve_gib": 16})).fits


@pytest.mark.parametrize(
    "setting",
    [
        "loader.volumes_per_batch=1",
        "engine.precision=bf16-mixed",
        "engine.checkpoint_activations=true",
        "method.crops_at_once=1",
    ],
)
def test_what_it_says_would_hold_less_does_and_is_not_said_again(setting, tmp_path):
    sections = {
        "method": find("medssl.methods", "voco").Config.tiny().model_dump(mode="json"),
        "encoder": {"name": "segresnet", "width": 8, "blocks": [2, 2, 2]},
        "engine": {"precision": "32-true"},
        "loader": {"volumes_per_batch": 2},
    }
    as_it_is = plan(config(tmp_path, "voco", **sections))
    assert len(as_it_is.to_hold_less) == 4
    section, name, value = re.split("[.=]", setting)
    sections[section] |= {name: yaml.safe_load(value)}
    changed = plan(config(tmp_path, "voco", **sections))
    assert len(changed.to_hold_less) == 3
    assert not [words for words in changed.to_hold_less if name in words]
    assert changed.memory_gib["activations"] < as_it_is.memory_gib["activations"]


def test_an_unknown_card_is_named_with_those_that_are_known(tmp_path):
    with pytest.raises(ConfigError, match="no GPU is known as 'h1000'; known are h200, h100"):
        plan(config(tmp_path, "voco", plan={"gpu": "h1000"}))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_has_a_plan(path, tmp_path):
    found = plan(load(PretrainConfig, path, [f"store={tmp_path}", f"out={tmp_path / 'run'}"]))
    assert found.hours > 0
    assert found.flops_per_step > 1e8
    assert not list(tmp_path.iterdir())
