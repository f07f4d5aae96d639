"""A probe is one linear layer, or it is no probe."""

import pytest
from torch import nn

from medssl.config.choice import find
from medssl.errors import ConfigError
from medssl.training.strategies.linear_probe import LinearProbe


@pytest.fixture
def encoder():
    return find("medssl.models.encoders", "unet").Config.tiny().build()


def test_a_network_with_a_decoder_is_refused(encoder):
    network, _ = encoder.segmenter(2)
    with pytest.raises(ConfigError, match=r"but decoder.*stands between") as error:
        LinearProbe.Config().build().prepare(network, encoder, seed=0)
    assert "frozen_encoder" in error.value.hint
    assert all(weight.requires_grad for weight in network.parameters())


def test_a_linear_classifier_is_one(encoder):
    network = nn.ModuleDict({"encoder": encoder, "head": nn.Linear(encoder.embed_dim, 3)})
    LinearProbe.Config().build().prepare(network, encoder, seed=0)
    trained = [name for name, weight in network.named_parameters() if weight.requires_grad]
    assert trained == ["head.weight", "head.bias"]


def test_a_head_of_two_layers_is_refused(encoder):
    head = nn.Sequential(nn.Linear(encoder.embed_dim, 4), nn.ReLU(), nn.Linear(4, 3))
    network = nn.ModuleDict({"encoder": encoder, "head": head})
    with pytest.raises(ConfigError, match="2 linear layers"):
        LinearProbe.Config().build().prepare(network, encoder, seed=0)
