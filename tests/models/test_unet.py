"""nnU-Net's networks: the tensors and the output that its own package has."""

import importlib.util
import sys

import pytest
import torch
from torch import nn

from medssl.models.encoders.unet import UNetEncoder
from medssl.models.unet import UNet

RES_ENC_L = {
    "channels": (32, 64, 128, 256, 320, 320),
    "depths": (1, 3, 4, 6, 6, 6),
    "residual": True,
    "decoder_convs": 1,
}


def test_res_enc_l_has_as_many_weights_as_published():
    with torch.device("meta"):
        network = UNet(dims=3, in_channels=1, out_channels=2, **RES_ENC_L)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(102.4e6, rel=1e-3)


def test_the_plain_encoder_has_as_many_weights_as_the_released_one():
    config = UNetEncoder.Config(channels=(32, 64, 128, 256, 320, 320), depths=(2,) * 6)
    with torch.device("meta"):
        encoder = config.build()
    assert sum(p.numel() for p in encoder.parameters()) == 14_025_120


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_same_weights_same_maps_as_nnunets_own_package(residual, dims):
    theirs = original(dims, residual)
    ours = UNetEncoder.Config(
        dims=dims, channels=(4, 6, 8), depths=(1, 2, 2), residual=residual
    ).build()
    weights = {k: v for k, v in theirs.state_dict().items() if "all_modules" not in k}
    ours.net.load_state_dict(weights)
    x = torch.randn(2, 1, *(16, 8, 24)[:dims])
    for mine, other in zip(ours.features(x), theirs(x), strict=True):
        torch.testing.assert_close(mine, other)


def original(dims, residual):
    """Their encoder; the package cannot be installed without its unused heavy dependencies."""
    if importlib.util.find_spec("dynamic_network_architectures") is None:
        pytest.skip("dynamic-network-architectures is not installed")
    from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
    from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder

    assert "timm" not in sys.modules
    kind = {2: (nn.Conv2d, nn.InstanceNorm2d), 3: (nn.Conv3d, nn.InstanceNorm3d)}[dims]
    return (ResidualEncoder if residual else PlainConvEncoder)(
        1, 3, (4, 6, 8), kind[0], 3, (1, 2, 2), (1, 2, 2), True, kind[1],
        {"eps": 1e-5, "affine": True}, None, None, nn.LeakyReLU, {"inplace": True},
        return_skips=True,
    )  # fmt: skip
