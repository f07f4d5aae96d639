"""Global and local contrast as a module: stages, strategies, slices and volumes, a short run."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medssl.config.load import validate
from medssl.data.appearance import AppearanceConfig
from medssl.data.augment import AugmentConfig, never
from medssl.data.partition_views import PartitionViews
from medssl.losses import global_local as losses
from medssl.losses.ntxent import masked_info_nce
from medssl.methods.global_local import GlobalLocal, view_pairs
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.weights import load_decoder, load_encoder
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.recorder import read_metrics
from tests.regions import sample_of
from tests.training.stores import write_store

STILL = {
    "spread": 1,
    "augment": AugmentConfig(flip_probability=0, rotate_probability=0, shift_probability=0),
}


def build(dims=3, crops=2, views=None, global_contrast=None, local_contrast=None, **options):
    torch.manual_seed(0)
    views = {"crop_voxels": 16, "partitions": (1, 1, 2), "dims": dims, "crops": crops} | (
        views or {}
    )
    config = GlobalLocal.Config(
        views=PartitionViews(**views),
        global_contrast={"hidden_dim": 16, "projection_dim": 8} | (global_contrast or {}),
        local_contrast={"places": 32, "projection_dim": 8} | (local_contrast or {}),
        **options,
    )
    tiny = UNetEncoder.Config(dims=dims, channels=(4, 8), depths=(1, 1), decoder_convs=1)
    return config.build(encoder=tiny.build())


def look(rng, shape):
    return rng.random(shape, dtype=np.float32)


def a_batch(method, volumes=2):
    rng = np.random.default_rng(1)
    return method.views.collate([sample_of(method.views, rng, look) for _ in range(volumes)])


def has_gradient(module):
    return any(w.grad is not None and w.grad.abs().sum() > 0 for w in module.parameters())


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("stage", ["encoder", "decoder", "joint"])
def test_a_stage_trains_its_parts_and_no_others(stage, dims):
    method = build(dims, stage=stage)
    output = method.loss(a_batch(method), progress=0.0)
    output.total.backward()
    assert set(output.parts) == {
        "encoder": {"global"}, "decoder": {"local"}, "joint": {"global", "local"}
    }[stage]  # fmt: skip
    assert has_gradient(method.encoder) == (stage != "decoder")
    assert (method.decoder is not None) == (stage != "encoder")
    if method.decoder is not None:
        assert has_gradient(method.decoder)


def test_a_decoder_stage_may_train_the_encoder_too():
    method = build(stage="decoder", freeze_encoder=False)
    method.loss(a_batch(method), progress=0.0).total.backward()
    assert has_gradient(method.encoder)


@pytest.mark.parametrize("layout", ["even", "published"])
@pytest.mark.parametrize("pooling", ["mean", "flatten"])
@pytest.mark.parametrize("strategy", ["gr", "gd-", "gd", "gd_cross"])
def test_global_part_is_its_loss_of_the_projections(strategy, pooling, layout):
    head = "plain" if layout == "published" else "batch_norm"
    contrast = {"strategy": strategy, "layout": layout, "pooling": pooling, "head": head}
    crops = losses.VIEWS[strategy]
    method = build(2, crops, global_contrast=contrast, stage="encoder")
    batch = a_batch(method)
    maps = method.encoder.features(batch.views_BCIJK[0])
    wide = maps[-1].flatten(1) if pooling == "flatten" else method.encoder.pool(maps)
    z = method.global_part.head(wide)
    if layout == "published":
        expected = losses.published_contrast(z, strategy, 2, 0.1)
    else:
        rows = losses.origin(batch.geometry["partition_BN"], crops)
        expected = masked_info_nce(z, *losses.strategy_pairs(strategy, rows), 0.1)
    torch.testing.assert_close(method.loss(batch, progress=0.0).total, expected)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    "contrast",
    [
        {"strategy": "matched"},
        {"strategy": "matched", "negatives": "batch", "maps": "encoder", "levels": 1},
        {"strategy": "matched", "levels": 1, "apart_voxels": 2.0},
        {"strategy": "lr", "layout": "published"},
        {"strategy": "ld", "neighbours": 4},
        {"strategy": "ld", "region_size": 1},
    ],
    ids=lambda contrast: "-".join(map(str, contrast.values())),
)
def test_every_local_strategy_trains_and_costs_the_constant_when_blind(contrast, dims):
    views = {} if contrast["strategy"] == "matched" else STILL
    deep = {"stage": "decoder", "freeze_encoder": False}
    method = build(dims, views=views, local_contrast=contrast, **deep)
    batch = a_batch(method)
    method.loss(batch, progress=0.0).total.backward()
    assert has_gradient(method.encoder)
    blind = copy.deepcopy(method)
    for weight in blind.local_part.parameters():
        weight.data.zero_()
    blind.local_part.head.layers[-1].forward = lambda x: torch.ones(len(x), blind_width(blind))
    if isinstance(getattr(blind.local_part, "dense", None), torch.nn.Linear):
        blind.local_part.dense.weight.data.fill_(1.0)
    output = blind.loss(batch, progress=0.0)
    bound = blind.constant_loss(batch)
    assert ("local" in bound) == ("apart_voxels" not in contrast)
    if bound:
        assert float(output.parts["local"].detach()) == pytest.approx(bound["local"], abs=2e-3)


def blind_width(method):
    return method.local_part.head.layers[-1].out_features


@pytest.mark.parametrize("strategy", ["gr", "gd-", "gd", "gd_cross"])
@pytest.mark.parametrize("layout", ["even", "published"])
def test_a_blind_global_part_costs_the_constant(strategy, layout):
    contrast = {"strategy": strategy, "layout": layout, "weight": 0.5}
    method = build(2, losses.VIEWS[strategy], global_contrast=contrast, stage="encoder")
    batch = a_batch(method, volumes=3)
    method.global_part.head[-1].forward = lambda x: torch.ones(len(x), 8)
    output = method.loss(batch, progress=0.0)
    bound = method.constant_loss(batch)["global"]
    assert float(output.parts["global"]) == pytest.approx(bound, rel=1e-4)


def test_pairs_of_crops_are_all_those_of_one_region():
    first, second = view_pairs(6, 3)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [
        (0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)
    ]  # fmt: skip


def test_places_of_crops_without_change_are_found_without_training():
    """Far more often than one in 32: each place has nearly the same features in both."""
    still = {"appearance": never(AppearanceConfig), "spread": 1.5, **STILL} | {"spread": 1.5}
    method = build(3, views=still, stage="decoder", local_contrast={"maps": "encoder"})
    scores = method.loss(a_batch(method), progress=0.0).scores
    assert scores["match_accuracy"] > 0.2
    assert {"dense_alignment", "dense_uniformity", "dense_uniformity_across"} <= set(scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": {"crops": 1}}, "so that there are pairs"),
        ({"views": {"partitions": (1, 1, 1)}}, "choose more, such as"),
        ({"global_contrast": {"layout": "published"}}, "has 3 views"),
        ({"local_contrast": {"strategy": "lr"}}, "must show the same box"),
        (
            {
                "views": {"partitions": (1, 1, 1), **STILL},
                "stage": "decoder",
                "local_contrast": {"strategy": "ld"},
            },
            "ld pairs partitions",
        ),
        ({"local_contrast": {"levels": 7}}, "give a smaller number"),
        ({"local_contrast": {"apart_voxels": 50}}, "none would be compared with another"),
        ({"local_contrast": {"places": 1}}, "greater than or equal to 2"),
        (
            {"views": STILL, "local_contrast": {"strategy": "lr", "neighbours": 35}},
            "a region of the lattice has 34 others",
        ),
        ({"views": {"local_crops": 2, "local_voxels": 4}}, "would not look at them"),
    ],
)
def test_settings_that_cannot_work_are_refused(options, message):
    with pytest.raises((ValidationError, ValueError), match=message):
        build(**options)


@pytest.mark.parametrize("dims", [2, 3])
def test_twenty_steps_on_a_store(tmp_path, dims):
    values = {
        "store": str(write_store(tmp_path / "store")),
        "out": str(tmp_path / "run"),
        "method": {
            "name": "global_local",
            "views": {"dims": dims, "crop_voxels": 12, "partitions": [1, 1, 2]},
            "global_contrast": {"hidden_dim": 16, "projection_dim": 16},
            "local_contrast": {"places": 64, "projection_dim": 16},
        },
        "encoder": {
            "name": "unet", "dims": dims, "channels": [4, 8], "depths": [1, 1], "decoder_convs": 1
        },
        "optimizer": {"lr": 0.01},
        "schedule": {"steps": 20, "warmup_steps": 2},
        "loader": {"volumes_per_batch": 3, "workers": 0, "validation_batches": 1},
        "rhythm": {"record_steps": 1, "validate_steps": 20, "checkpoint_steps": 20},
        "engine": {"accelerator": "cpu"},
        "tracking": {"enabled": False},
    }  # fmt: skip
    pretrain(validate(PretrainConfig, values, where="test"))
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    local = [row["local"] for row in rows if "local" in row]
    assert len(local) == 20
    assert np.mean(local[-5:]) < np.mean(local[:5])
    assert {"val/global_constant", "val/local_constant", "val/match_accuracy"} <= rows[-1].keys()
    encoder, _ = load_encoder(tmp_path / "run")
    assert load_decoder(tmp_path / "run", encoder) is not None
