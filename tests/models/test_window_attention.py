"""Window attention without its padding is window attention with it: values and gradients."""

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformerBlock, compute_mask, get_window_size
from torch import Tensor

from medssl.models.window_attention import attend_in_windows, window_layout

GRIDS = [(8, 8, 8), (9, 7, 12), (4, 4, 4), (16, 15, 3), (9, 11), (14, 14)]


def twins(
    grid: tuple[int, ...], shift: int, *, qkv_bias: bool = True
) -> tuple[list[Tensor], list[Tensor]]:
    """Return value and gradients of MONAI's padded attention, and of ours, in float64."""
    torch.manual_seed(0)
    axes = len(grid)
    block = SwinTransformerBlock(12, 3, (7,) * axes, (shift,) * axes, qkv_bias=qkv_bias).double()
    for weight in block.attn.parameters():
        torch.nn.init.normal_(weight)
    window, moved = get_window_size(grid, (7,) * axes, (shift,) * axes)
    padded = [-(-size // length) * length for size, length in zip(grid, window, strict=True)]
    mask = compute_mask(padded, window, moved, torch.device("cpu"))
    x_BSC = torch.randn(2, *grid, 12, dtype=torch.double, requires_grad=True)
    weights = [x_BSC, *block.norm1.parameters(), *block.attn.parameters()]
    expected = block.forward_part1(x_BSC, mask)
    found = attend_in_windows(block.norm1(x_BSC), block.attn, tuple(window), tuple(moved))
    gradient = torch.randn_like(expected)
    return (
        [expected, *torch.autograd.grad(expected, weights, gradient)],
        [found, *torch.autograd.grad(found, weights, gradient)],
    )


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_values_and_gradients_are_those_of_the_padded_computation(grid, shift):
    for expected, found in zip(*twins(grid, shift), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_projection_without_bias_has_zeros_for_padding():
    for expected, found in zip(*twins((8, 8, 8), 3, qkv_bias=False), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_every_token_has_one_place():
    layout = window_layout((8, 9, 16), (7, 7, 7), (3, 3, 3), torch.device("cpu"))
    tokens = 8 * 9 * 16
    assert sorted(layout.order_T.tolist()) == list(range(tokens))
    torch.testing.assert_close(layout.order_T[layout.inverse_T], torch.arange(tokens))
    assert sum(group.windows * len(group.real_R) for group in layout.groups) == tokens
    assert all(len(group.real_R) + len(group.padded_P) == 7**3 for group in layout.groups)


def test_a_layout_that_a_prediction_made_serves_a_training():
    with torch.inference_mode():
        layout = window_layout((5, 6, 7), (4, 4, 4), (1, 1, 1), torch.device("cpu"))
    tensors = [layout.order_T, layout.inverse_T]
    tensors += [x for group in layout.groups for x in vars(group).values() if isinstance(x, Tensor)]
    assert not any(x.is_inference() for x in tensors)
    x_TC = torch.randn(len(layout.order_T), 2, requires_grad=True)
    x_TC.index_select(0, layout.order_T).sum().backward()
