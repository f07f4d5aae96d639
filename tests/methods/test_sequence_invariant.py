"""Two contrasts, contrasted and restored: the parts by hand, and what collapse gives."""

import math

import numpy as np
import pytest
import torch

from medssl.data.sequence_views import SequenceViews
from medssl.data.views import Batch
from medssl.methods.sequence_invariant import SequenceInvariant
from medssl.models.encoders.segresnet import SegResNetEncoder
from tests.regions import in_sequences

VIEWS = SequenceViews(crop_voxels=8)


def build(**options):
    torch.manual_seed(0)
    config = SequenceInvariant.Config(views=VIEWS, hidden_dim=16, projection_dim=8, **options)
    return config.build(encoder=SegResNetEncoder.Config.tiny().build())


def a_batch(samples=3, seed=1):
    rng = np.random.default_rng(seed)
    shape = (2, *VIEWS.region_voxels)
    regions = [in_sequences(*rng.random(shape, dtype=np.float32)) for _ in range(samples)]
    return VIEWS.collate([VIEWS.cut(region, VIEWS.draw(rng)) for region in regions])


@torch.no_grad()
@pytest.mark.parametrize("reconstruction", ["decoder", "transposed"])
def test_each_part_is_what_loops_give(reconstruction):
    method, batch = build(reconstruction=reconstruction).double(), a_batch()
    spoiled, clean = (kind.double() for kind in batch.views_BCIJK)
    output = method.loss(Batch([spoiled, clean], {}), progress=0.0)
    maps = method.encoder.features(spoiled)
    z = method.project(method.encoder.pool(maps))
    contrastive = 0.0
    for row in range(6):
        alike = [math.exp(float(torch.cosine_similarity(z[row], z[n], 0)) / 0.5) for n in range(6)]
        contrastive -= math.log(alike[row ^ 1] / (sum(alike) - alike[row])) / 6
    assert float(output.parts["contrastive"]) == pytest.approx(contrastive, abs=1e-9)
    off = (method.reconstruct(maps) - clean).abs().mean()
    assert float(output.parts["reconstruction"]) == pytest.approx(float(off))
    assert float(output.total) == pytest.approx(contrastive + float(off))
    assert (method.decoder is not None) == (reconstruction == "decoder")


@torch.no_grad()
@pytest.mark.parametrize(("objective", "constant"), [("ntxent", math.log(5)), ("barlow", 1.0)])
def test_a_blind_encoder_reaches_the_constant_loss(objective, constant):
    method, batch = build(objective=objective), a_batch()
    torch.nn.init.zeros_(method.project[0].weight)
    assert method.constant_loss(batch) == {"contrastive": pytest.approx(constant)}
    output = method.loss(batch, progress=0.0)
    assert float(output.parts["contrastive"]) == pytest.approx(constant, abs=1e-5)
    assert {"positive_cosine", "negative_cosine"} == set(output.scores)


@torch.no_grad()
def test_weights_weigh_the_parts():
    batch = a_batch()
    parts = build().loss(batch, progress=0.0).parts
    total = build(contrastive_weight=0.5, reconstruction_weight=3).loss(batch, progress=0.0).total
    expected = 0.5 * float(parts["contrastive"]) + 3 * float(parts["reconstruction"])
    assert float(total) == pytest.approx(expected, rel=1e-5)
