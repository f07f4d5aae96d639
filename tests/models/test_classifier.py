import math

import pytest
import torch

from medssl.models.classifier import Classifier, GatedAttention
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.encoders.unet import UNetEncoder


def flat():
    return UNetEncoder.Config.tiny().model_copy(update={"dims": 2}).build().eval()


def test_the_mean_over_places_is_the_encoders_own_embedding():
    encoder = SegResNetEncoder.Config.tiny().build().eval()
    network = Classifier(encoder, 4, pooling="mean").eval()
    x = torch.rand(2, 1, 16, 16, 16)
    assert torch.equal(network(x), network.head(encoder.embed(x)))


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_a_bag_of_slices_does_not_care_for_their_order(pooling):
    torch.manual_seed(0)
    network = Classifier(flat(), 3, pooling=pooling).eval()
    x = torch.rand(2, 1, 16, 16, 5)
    assert network(x).shape == (2, 3)
    assert torch.allclose(network(x), network(x[..., [3, 0, 4, 1, 2]]), atol=1e-5)


def test_a_bag_is_pooled_over_its_own_slices():
    encoder = flat()
    network = Classifier(encoder, 2, pooling="max").eval()
    x = torch.rand(2, 1, 16, 16, 3)
    for b in range(2):
        z = torch.stack([encoder.embed(x[b : b + 1, ..., k])[0] for k in range(3)])
        assert torch.allclose(network(x)[b], network.head(z.amax(0)), atol=1e-5)


def test_attention_over_places_of_a_volume_uses_the_coarsest_map():
    encoder = SegResNetEncoder.Config.tiny().build().eval()
    network = Classifier(encoder, 2, pooling="attention").eval()
    assert network.head.in_features == encoder.channels[-1]
    assert network(torch.rand(1, 1, 32, 32, 32)).shape == (1, 2)


def test_gated_attention_equals_its_slow_twin():
    torch.manual_seed(1)
    attention = GatedAttention(3, hidden=2).double().requires_grad_(False)
    z = torch.randn(4, 3, dtype=torch.float64)
    v, u, w = attention.content, attention.gate, attention.score
    scores = []
    for row in z:
        total = w.bias.item()
        for h in range(2):
            content = math.tanh(sum(v.weight[h, d] * row[d] for d in range(3)) + v.bias[h])
            gate = 1 / (1 + math.exp(-(sum(u.weight[h, d] * row[d] for d in range(3)) + u.bias[h])))
            total += w.weight[0, h].item() * content * gate
        scores.append(total)
    weights = [math.exp(s) / sum(math.exp(t) for t in scores) for s in scores]
    assert attention(z[None])[0, :, 0].tolist() == pytest.approx(weights, abs=1e-12)
