"""Three tasks on one pass: each part by hand, the published pooling, what collapse gives."""

import math

import numpy as np
import pytest
import torch

from medssl.data.rotation_views import RotationViews
from medssl.data.views import Batch
from medssl.methods.swin_pretext import SwinPretext
from medssl.models.encoders.segresnet import SegResNetEncoder
from tests.regions import whole

VIEWS = RotationViews(crop_voxels=8)


def build(**options):
    torch.manual_seed(0)
    config = SwinPretext.Config(views=VIEWS, projection_dim=16, **options)
    return config.build(encoder=SegResNetEncoder.Config.tiny().build())


def a_batch(volumes=3, seed=1):
    rng = np.random.default_rng(seed)
    regions = [whole(rng.random((8, 8, 8), dtype=np.float32)) for _ in range(volumes)]
    return VIEWS.collate([VIEWS.cut(region, VIEWS.draw(rng)) for region in regions])


@pytest.mark.parametrize("pooling", ["mean", "token"])
@pytest.mark.parametrize("reconstruction", ["decoder", "upsampled"])
@torch.no_grad()
def test_each_part_is_what_loops_give(pooling, reconstruction):
    method, batch = build(pooling=pooling, reconstruction=reconstruction).double(), a_batch()
    altered, clean = (kind.double() for kind in batch.views_BCIJK)
    output = method.loss(Batch([altered, clean], batch.geometry), progress=0.0)

    maps = method.encoder.features(altered)
    if pooling == "mean":
        turn_in = crop_in = method.encoder.pool(maps)
    else:
        turn_in, crop_in = maps[-1][:, :, 0, 0, 0], maps[-1][:, :, 0, 0, 1]
    turns = batch.geometry["quarter_turns_BN"].flatten().tolist()
    logits, z = method.turn(turn_in), method.project(crop_in)
    rotation = contrastive = 0.0
    for row, turn in enumerate(turns):
        chances = [math.exp(value) for value in logits[row].tolist()]
        rotation -= math.log(chances[turn] / sum(chances)) / len(turns)
        alike = [math.exp(float(torch.cosine_similarity(z[row], z[n], 0)) / 0.5) for n in range(6)]
        rest = sum(alike) - alike[row]
        contrastive -= math.log(alike[row ^ 1] / rest) / len(turns)
    assert float(output.parts["rotation"]) == pytest.approx(rotation, abs=1e-9)
    assert float(output.parts["contrastive"]) == pytest.approx(contrastive, abs=1e-9)
    off = (method.reconstruct(maps) - clean).abs().mean()
    assert float(output.parts["reconstruction"]) == pytest.approx(float(off))
    assert float(output.total) == pytest.approx(sum(float(p) for p in output.parts.values()))


@torch.no_grad()
def test_weights_weigh_the_parts():
    batch = a_batch()
    parts = build().loss(batch, progress=0.0).parts
    weighed = build(rotation_weight=2.0, contrastive_weight=0.0, reconstruction_weight=3.0)
    total = weighed.loss(batch, progress=0.0).total
    assert float(total) == pytest.approx(
        2 * float(parts["rotation"]) + 3 * float(parts["reconstruction"]), rel=1e-5
    )


@torch.no_grad()
def test_a_blind_encoder_reaches_the_constant_loss():
    method, batch = build(), a_batch()
    for head in (method.turn, method.project):
        torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(method.turn.bias)
    parts, constants = method.loss(batch, progress=0.0).parts, method.constant_loss(batch)
    assert constants == {"rotation": math.log(4), "contrastive": pytest.approx(math.log(5))}
    for name, value in constants.items():
        assert float(parts[name]) == pytest.approx(value, abs=1e-5)


@torch.no_grad()
def test_scores_are_shares_and_the_decoder_is_kept_when_it_is_the_encoder_s_own():
    method = build()
    scores = method.loss(a_batch(), progress=0.0).scores
    assert 0 <= scores["rotation_accuracy"] <= 1
    assert {"positive_cosine", "negative_cosine"} <= set(scores)
    assert method.decoder is not None
    assert build(reconstruction="upsampled").decoder is None
