"""The map of a dense objective is the one that was asked for, and costs no finer ones."""

import pytest
import torch

from medssl.models.dense_maps import DenseMap
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.heads import PointwiseHead

ENCODERS = {
    "unet": UNetEncoder.Config(channels=(4, 6, 8), depths=(1, 1, 1)),
    "segresnet": SegResNetEncoder.Config(width=4, blocks=(1, 1, 1)),
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("levels", [1, 2, None])
@pytest.mark.parametrize("source", ["decoder", "encoder"])
def test_levels_are_counted_from_the_coarsest(name, source, levels):
    encoder = ENCODERS[name].build()
    dense = DenseMap(encoder, source, levels)
    features = encoder.features(torch.randn(1, 1, 8, 8, 8))
    found = dense(features)
    maps = features[::-1] if source == "encoder" else dense.decoder(features)
    assert torch.equal(found, maps[-1 if levels is None else levels - 1])
    assert found.shape[1] == dense.channels


@pytest.mark.parametrize("name", ENCODERS)
def test_a_decoder_stops_where_it_is_asked_to(name):
    encoder = ENCODERS[name].build()
    dense = DenseMap(encoder, "decoder", 1)
    dense(encoder.features(torch.randn(1, 1, 8, 8, 8))).sum().backward()
    untouched = [w for w in dense.decoder.parameters() if w.grad is None]
    assert 0 < len(untouched) < len(list(dense.decoder.parameters()))


def test_maps_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="and it has 2"):
        DenseMap(ENCODERS["unet"].build(), "decoder", 3)


def test_a_head_treats_places_as_rows():
    torch.manual_seed(0)
    head = PointwiseHead(5, 7, 3)
    x = torch.randn(2, 4, 6, 5)
    assert torch.allclose(head(x), head(x.flatten(0, 2)).view(2, 4, 6, 3))
    assert all(not name.endswith("0.bias") for name, _ in head.named_parameters())
