"""Every encoder keeps the promises of medssl.models.encoders.base; new files are picked up."""

import pytest
import torch
from monai.bundle import ConfigParser

from medssl.config.choice import available, find

ENCODERS = available("medssl.models.encoders")


@pytest.fixture(params=ENCODERS)
def encoder(request):
    torch.manual_seed(0)
    return find("medssl.models.encoders", request.param).Config(width=4).build().eval()


def test_features_are_a_pyramid_of_the_promised_shapes(encoder):
    x_BCIJK = torch.randn(2, 1, 24, 16, 32)
    maps = encoder.features(x_BCIJK)
    assert len(maps) == len(encoder.channels) == len(encoder.strides)
    for level, channels, stride in zip(maps, encoder.channels, encoder.strides, strict=True):
        assert level.shape == (2, channels, 24 // stride, 16 // stride, 32 // stride)


def test_the_embedding_has_the_promised_length(encoder):
    assert encoder.embed(torch.randn(2, 1, 16, 16, 16)).shape == (2, encoder.embed_dim)


def test_rows_do_not_see_each_other(encoder):
    x_BCIJK = torch.randn(2, 1, 16, 16, 16)
    torch.testing.assert_close(encoder.embed(x_BCIJK)[:1], encoder.embed(x_BCIJK[:1]))


def test_the_segmenter_holds_this_encoder_and_monai_can_build_it_from_its_definition(encoder):
    network, definition = encoder.segmenter(3)
    own = encoder.state_dict()
    inside = network.encoder.state_dict()
    assert [v.data_ptr() for v in inside.values()] == [v.data_ptr() for v in own.values()]
    parser = ConfigParser({"network": definition})
    again = parser.get_parsed_content("network")
    again.load_state_dict(network.state_dict())
    x_BCIJK = torch.randn(1, 1, 16, 16, 16)
    expected = network.eval()(x_BCIJK)
    assert expected.shape == (1, 3, 16, 16, 16)
    assert torch.equal(again.eval()(x_BCIJK), expected)
