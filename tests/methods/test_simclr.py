"""SimCLR as a module: which rows are pairs, every loss it offers, a short run on a store."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medssl.config.load import validate
from medssl.data.partition_views import PartitionViews
from medssl.losses.ntxent import ntxent
from medssl.methods.simclr import SimCLR
from medssl.models.encoders.unet import UNetEncoder
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.recorder import read_metrics
from tests.regions import sample_of
from tests.training.stores import write_store

LOSSES = ["ntxent", "dcl", "dclw", "mochi", "intra_volume"]


def build(dims=3, crops=2, partitions=(1, 1, 2), **options):
    torch.manual_seed(0)
    views = PartitionViews(dims=dims, crop_voxels=8, crops=crops, partitions=partitions)
    config = SimCLR.Config(views=views, hidden_dim=16, projection_dim=8, **options)
    tiny = UNetEncoder.Config(dims=dims, channels=(4, 8), depths=(1, 1))
    return config.build(encoder=tiny.build())


def a_batch(method, volumes=2):
    rng = np.random.default_rng(1)

    def look(rng, shape):
        return rng.random(shape, dtype=np.float32)

    return method.views.collate([sample_of(method.views, rng, look) for _ in range(volumes)])


@pytest.mark.parametrize("dims", [2, 3])
def test_the_loss_is_ntxent_of_the_projections_by_region(dims):
    method = build(dims)
    batch = a_batch(method, volumes=3)
    z = method.projector(method.encoder.embed(batch.views_BCIJK[0]))
    expected = ntxent(z, 0.1, sample_N=torch.arange(6).repeat_interleave(2))
    torch.testing.assert_close(method.loss(batch, progress=0.0).total, expected)


@pytest.mark.parametrize("crops", [2, 3])
def test_intra_volume_pairs_stay_in_their_volume(crops):
    method = build(crops=crops, loss="intra_volume")
    positive, negative = method._pairs(4 * crops, torch.device("cpu"))
    for a in range(4 * crops):
        for b in range(4 * crops):
            same_region, same_volume = a // crops == b // crops, a // crops // 2 == b // crops // 2
            assert bool(positive[a, b]) == (same_region and a != b)
            assert bool(negative[a, b]) == (same_volume and not same_region)


@pytest.mark.parametrize("loss", LOSSES)
def test_an_encoder_blind_to_its_input_pays_the_constant(loss):
    method = build(loss=loss, hardest=2, mixed=3, mixed_with_anchor=2)
    batch = a_batch(method)
    method.projector.forward = lambda x: x.new_ones(len(x), 4) + 0 * x.sum()
    output = method.loss(batch, progress=0.0)
    assert float(output.parts[loss].detach()) == pytest.approx(
        method.constant_loss(batch)[loss], rel=1e-5
    )
    assert float(output.scores["positive_cosine"]) == pytest.approx(1)
    assert float(output.scores["negative_cosine"]) == pytest.approx(1)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_the_encoder(loss):
    method = build(loss=loss)
    method.loss(a_batch(method), progress=0.0).total.backward()
    assert all(w.grad.abs().sum() > 0 for w in method.encoder.stages()[1].parameters())


def test_settings_without_pairs_are_refused():
    with pytest.raises(ValidationError, match="so that there are pairs"):
        SimCLR.Config(views=PartitionViews(crops=1))
    with pytest.raises(ValidationError, match="choose more, such as"):
        SimCLR.Config(loss="intra_volume")
    with pytest.raises(ValidationError, match="would not look at them"):
        SimCLR.Config(views=PartitionViews(local_crops=1))


def test_twenty_steps_on_a_store(tmp_path):
    values = {
        "store": str(write_store(tmp_path / "store")),
        "out": str(tmp_path / "run"),
        "method": {
            "name": "simclr",
            "views": {"crop_voxels": 8, "partitions": [1, 1, 2]},
            "hidden_dim": 16,
            "projection_dim": 16,
        },
        "encoder": {"name": "segresnet", "width": 4, "blocks": [1, 1]},
        "schedule": {"steps": 20, "warmup_steps": 2},
        "loader": {"volumes_per_batch": 3, "workers": 0, "validation_batches": 1},
        "rhythm": {"record_steps": 1, "validate_steps": 20, "checkpoint_steps": 20},
        "engine": {"accelerator": "cpu"},
        "tracking": {"enabled": False},
    }
    pretrain(validate(PretrainConfig, values, where="test"))
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 20
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert {"val/ntxent_constant", "val/alignment", "val/uniformity"} <= rows[-1].keys()
