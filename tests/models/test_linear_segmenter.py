"""A linear layer on all maps of an encoder, against one on the maps laid on top of each other."""

import pytest
import torch
from monai.bundle import ConfigParser
from torch.nn import functional as F

from medssl.config.choice import available, find
from medssl.errors import InputError
from medssl.models.linear_segmenter import LinearSegmenter, linear_segmenter

ENCODERS = available("medssl.models.encoders")


@pytest.fixture(params=ENCODERS)
def encoder(request):
    torch.manual_seed(0)
    return find("medssl.models.encoders", request.param).Config.tiny().build()


def volume(encoder):
    cells = (3, 2, 2) if max(encoder.strides) < 32 else (2, 1, 1)
    return torch.randn(2, 1, *[max(encoder.strides) * n for n in cells[: encoder.dims]])


def test_it_is_one_layer_on_all_maps_brought_to_the_input(encoder):
    network, x = linear_segmenter(encoder, 3)[0].double(), volume(encoder).double()
    network.train()(x)  # the norms get to know the maps
    network.eval()
    maps = [
        F.interpolate(
            (level - norm.running_mean.view(-1, 1, 1, 1))
            / (norm.running_var.view(-1, 1, 1, 1) + norm.eps).sqrt(),
            tuple(x.shape[2:]),
            mode="trilinear",
        )
        for level, norm in zip(encoder.features(x), network.norms, strict=True)
    ]
    weight = torch.cat([head.weight for head in network.heads], dim=1)
    expected = F.conv3d(torch.cat(maps, dim=1), weight, network.heads[0].bias)
    torch.testing.assert_close(network(x), expected)


def test_only_a_linear_layer_is_new(encoder):
    network, _ = linear_segmenter(encoder, 3)
    theirs = {id(weight) for weight in encoder.parameters()}
    new = [weight for weight in network.parameters() if id(weight) not in theirs]
    assert sum(weight.numel() for weight in new) == 3 * (sum(encoder.channels) + 1)
    assert theirs <= {id(weight) for weight in network.parameters()}


def test_monai_can_build_it_from_its_definition(encoder):
    network, definition = linear_segmenter(encoder, 3)
    again = ConfigParser({"network": definition}).get_parsed_content("network")
    again.load_state_dict(network.state_dict())
    x = volume(encoder)
    assert torch.equal(again.eval()(x), network.eval()(x))


def test_slices_are_segmented_too():
    config = find("medssl.models.encoders", "unet").Config(dims=2, channels=(4, 8), depths=(1, 1))
    network, _ = linear_segmenter(config.build(), 2)
    assert network(torch.randn(2, 1, 8, 12)).shape == (2, 2, 8, 12)


def test_a_definition_cannot_name_a_module_to_import():
    with pytest.raises(InputError, match="does not have"):
        LinearSegmenter({"name": "os.path"}, 2)
