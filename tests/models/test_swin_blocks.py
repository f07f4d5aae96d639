"""Swin's stages without padding are MONAI's: names, values and gradients."""

import copy

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformer

from medssl.models.swin_blocks import Block, Stage, without_padding


def swin(dims: int, **options: float) -> SwinTransformer:
    torch.manual_seed(0)
    return SwinTransformer(
        in_chans=1,
        embed_dim=12,
        window_size=(7,) * dims,
        patch_size=(2,) * dims,
        depths=(2, 1, 1, 1),
        num_heads=(3, 3, 6, 6),
        spatial_dims=dims,
        use_v2=True,
        **options,
    )


@pytest.mark.parametrize("shape", [(1, 1, 64, 32, 32), (2, 1, 64, 96)], ids=["3D", "2D"])
def test_maps_and_gradients_are_those_of_monai(shape):
    theirs = swin(len(shape) - 2).double()
    ours = without_padding(copy.deepcopy(theirs))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x_BCS = torch.randn(shape, dtype=torch.double)
    expected, found = theirs(x_BCS), ours(x_BCS)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    for maps in (expected, found):
        sum(level.square().mul(level.sin()).sum() for level in maps).backward()
    for (name, theirs_), ours_ in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(ours_.grad, theirs_.grad, rtol=1e-5, atol=1e-5, msg=name)


def test_every_stage_and_block_is_replaced():
    kinds = [type(part) for part in without_padding(swin(3)).modules()]
    assert (kinds.count(Stage), kinds.count(Block)) == (4, 5)


def test_dropout_inside_attention_is_refused():
    with pytest.raises(ValueError, match="dropout"):
        without_padding(swin(3, attn_drop_rate=0.1))
