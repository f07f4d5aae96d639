"""Reconstruction leads back to the input's grid, with whatever encoder."""

import pytest
import torch

from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.encoders.swin_unetr import SwinUNETREncoder
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.encoders.vit import ViTEncoder
from medssl.models.reconstructor import Reconstructor

KINDS = ["decoder", "upsampled", "transposed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [SegResNetEncoder.Config, UNetEncoder.Config, ViTEncoder.Config])
def test_the_input_s_grid_is_reached_and_gradients_flow(kind, config):
    encoder = config.tiny().build()
    network = Reconstructor(kind, encoder, out_channels=2)
    x = torch.rand(2, 1, *(2 * encoder.strides[-1],) * encoder.dims)
    y = network(encoder.features(x))
    assert y.shape == (2, 2, *x.shape[2:])
    y.square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert (network.decoder is not None) == (kind == "decoder")


@pytest.mark.parametrize("kind", KINDS)
def test_slices_are_reconstructed_too(kind):
    encoder = UNetEncoder.Config(dims=2, channels=(4, 8, 16), depths=(1, 1, 1)).build()
    y = Reconstructor(kind, encoder)(encoder.features(torch.rand(1, 1, 16, 8)))
    assert y.shape == (1, 1, 16, 8)


def test_published_widths_halve_from_the_coarsest_map():
    encoder = UNetEncoder.Config(channels=(2, 4, 8, 16, 32), depths=(1,) * 5).build()
    steps = Reconstructor("transposed", encoder).rise
    assert [(s[0].in_channels, s[0].out_channels) for s in steps] == [
        (32, 16), (16, 8), (8, 4), (4, 2),
    ]  # fmt: skip
    swin = SwinUNETREncoder.Config(feature_size=12).build()  # published: 48
    published = Reconstructor("upsampled", swin)
    assert [(s[0].in_channels, s[0].out_channels) for s in published.rise] == [
        (192, 96), (96, 48), (48, 24), (24, 12), (12, 12),
    ]  # fmt: skip
    assert published.out.in_channels == 12
