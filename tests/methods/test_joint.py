"""VoCo and contrast together: one pass, partitions from the grid, places of the right base crop."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medssl.config.load import validate
from medssl.data.grid_views import GridViews
from medssl.losses import global_local as losses
from medssl.methods.joint import Joint, _origin
from medssl.methods.voco import VoCo
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.weights import load_decoder, load_encoder
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.recorder import read_metrics
from tests.regions import whole
from tests.training.stores import write_store

VIEWS = GridViews(grid=(2, 2, 1), crop_voxels=8, random_crops=3)


def build(**options):
    torch.manual_seed(0)
    config = Joint.Config(
        views=VIEWS,
        hidden_dim=16,
        projection_dim=16,
        feature_dropout="none",
        **{
            "global_contrast": {"hidden_dim": 16, "projection_dim": 8},
            "local_contrast": {"places": 32, "projection_dim": 8},
        }
        | options,
    )
    tiny = UNetEncoder.Config(channels=(4, 8), depths=(1, 1), decoder_convs=1)
    return config.build(encoder=tiny.build())


def a_batch(volumes=2):
    rng = np.random.default_rng(1)
    return VIEWS.collate(
        [
            VIEWS.cut(whole(rng.random(VIEWS.region_voxels, dtype=np.float32)), VIEWS.draw(rng))
            for _ in range(volumes)
        ]
    )


def test_all_parts_come_from_one_pass_and_train_encoder_and_decoder(monkeypatch):
    method, batch = build(), a_batch()
    rows = []
    features = method.encoder.features
    monkeypatch.setattr(method.encoder, "features", lambda x: rows.append(len(x)) or features(x))
    output = method.loss(batch, progress=0.0)
    assert rows == [2 * (3 + 4)]
    assert set(output.parts) == {"intra", "inter", "regularization", "global", "local"}
    torch.testing.assert_close(output.total, sum(output.parts.values()))
    output.total.backward()
    for module in (method.encoder, method.decoder, method.placement.student):
        assert all(w.grad is not None for w in module.parameters())
    assert {"nearest_base_accuracy", "match_accuracy", "positive_cosine"} <= set(output.scores)


def test_its_placement_is_voco():
    method, batch = build(placement_weight=0.5), a_batch()
    voco = VoCo.Config(views=VIEWS, hidden_dim=16, projection_dim=16, feature_dropout="none").build(
        encoder=method.encoder
    )
    voco.placement.load_state_dict(method.placement.state_dict())
    parts = method.loss(batch, progress=0.0).parts
    for name, value in voco.loss(batch, progress=0.0).parts.items():
        torch.testing.assert_close(parts[name], 0.5 * value)


def test_a_crop_lies_in_the_partition_of_the_base_crop_it_overlaps_most():
    batch = a_batch()
    rows = _origin(batch)
    labels = batch.geometry["position_labels_BNK"]
    expected = [
        (volume, int(np.argmax(crop)), 0) for volume in range(2) for crop in labels[volume].tolist()
    ]
    expected += [(volume, cell, 1) for volume in range(2) for cell in range(4)]
    found = zip(*(x.tolist() for x in (rows.volume_N, rows.partition_N, rows.view_N)), strict=True)
    assert list(found) == expected
    positive, negative = losses.strategy_pairs("gd-", rows)
    for a, (v, s, _) in enumerate(expected):
        for b, (w, t, _) in enumerate(expected):
            assert bool(positive[a, b]) == (a != b and (v, s) == (w, t))
            assert bool(negative[a, b]) == (s != t)


def test_places_are_matched_with_that_base_crop():
    method, batch = build(), a_batch()
    affine, (first, second), size = method._crops(batch)
    assert size == (8, 8, 8)
    labels = batch.geometry["position_labels_BNK"].flatten(0, 1)
    for n, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        volume, crop = divmod(n, 3)
        assert torch.equal(affine[a], batch.geometry["region_from_view_0_BN34"][volume, crop])
        cell = int(labels[n].argmax())
        assert torch.equal(affine[b], batch.geometry["region_from_view_1_BN34"][volume, cell])


def test_the_published_layout_is_for_slices():
    with pytest.raises(ValidationError, match="set it to even"):
        build(global_contrast={"layout": "published"})
    with pytest.raises(ValidationError, match="none would be compared with another"):
        build(local_contrast={"apart_voxels": 99})


def test_twenty_steps_on_a_store(tmp_path):
    values = {
        "store": str(write_store(tmp_path / "store")),
        "out": str(tmp_path / "run"),
        "method": build().config.model_dump(mode="json"),
        "encoder": {"name": "unet", "channels": [4, 8], "depths": [1, 1], "decoder_convs": 1},
        "optimizer": {"lr": 0.01},
        "schedule": {"steps": 20, "warmup_steps": 2},
        "loader": {"volumes_per_batch": 3, "workers": 0, "validation_batches": 1},
        "rhythm": {"record_steps": 1, "validate_steps": 20, "checkpoint_steps": 20},
        "engine": {"accelerator": "cpu"},
        "tracking": {"enabled": False},
    }
    pretrain(validate(PretrainConfig, values, where="test"))
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert {"val/intra_constant", "val/global_constant", "val/local_constant"} <= rows[-1].keys()
    encoder, _ = load_encoder(tmp_path / "run")
    assert load_decoder(tmp_path / "run", encoder) is not None
