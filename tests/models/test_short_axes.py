import copy

import pytest
import torch
from torch import nn

from medssl.models.short_axes import lengthen_short_axes

SHORT = [((2, 2, 2), 3), ((2, 4, 4), 3), ((4, 4, 4), 5), ((3, 3, 3), 5)]
LONG = [((1, 2, 2), 3), ((4, 2, 2), 3), ((6, 6, 6), 5)]


def layer(kernel):
    torch.manual_seed(0)
    return nn.Conv3d(16, 16, kernel, padding=kernel // 2)


def dirty_memory():
    for blocks in [torch.full((2**20,), float("nan")) for _ in range(4)]:
        del blocks


@pytest.mark.parametrize(("shape", "kernel"), SHORT + LONG)
def test_values_and_gradients_stay_as_they_are(shape, kernel):
    plain, x = layer(kernel), torch.randn(2, 16, *shape)
    longer = copy.deepcopy(plain)
    lengthen_short_axes(longer)
    lengthen_short_axes(longer)
    for network in (plain, longer):
        network(x).square().sum().backward()
    assert torch.allclose(plain(x), longer(x), atol=1e-5)
    assert torch.allclose(plain.weight.grad, longer.weight.grad, rtol=1e-4, atol=1e-3)
    assert list(plain.state_dict()) == list(longer.state_dict())


@pytest.mark.parametrize(("shape", "kernel"), SHORT)
def test_every_gradient_of_bfloat16_is_written(shape, kernel):
    exact = layer(kernel)
    rounded = copy.deepcopy(exact)
    lengthen_short_axes(rounded)
    x = torch.randn(8, 16, *shape)
    exact(x).sum().backward()
    for _ in range(4):  # what is not written is what the memory held: sometimes nothing strange
        rounded.weight.grad = None
        dirty_memory()
        with torch.autocast("cpu", torch.bfloat16):
            rounded(x).sum().backward()
        apart = (rounded.weight.grad - exact.weight.grad).abs().max()
        assert apart < 0.02 * exact.weight.grad.abs().max()


def test_a_copy_computes_with_its_own_weights():
    original = layer(3)
    lengthen_short_axes(original)
    copied = copy.deepcopy(original)
    with torch.no_grad():
        copied.weight.zero_()
        copied.bias.zero_()
    x = torch.randn(1, 16, 2, 2, 2)
    assert copied(x).abs().max() == 0
    assert original(x).abs().max() > 0


@pytest.mark.parametrize(
    "options", [{"padding": "same"}, {"padding_mode": "reflect", "padding": 1}]
)
def test_other_ways_to_pad_are_left_alone(options):
    torch.manual_seed(0)
    network = nn.Conv3d(2, 2, 3, **options)
    x = torch.randn(1, 2, 2, 4, 4)
    before = network(x)
    lengthen_short_axes(network)
    assert torch.equal(network(x), before)
