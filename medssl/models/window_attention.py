"""Attention inside shifted windows, without computing what padding would ask and answer.

Liu et al., "Swin Transformer" (2021, arXiv:2103.14030), as MONAI's SwinUNETR has it: a grid that
windows do not divide is padded with zeros after the normalisation. Padding takes part as keys:
all of it has one key and one value, the projection's biases, so however much a window holds of it
counts as one more key whose logit is raised by the log of the summed weights. As queries padding
is thrown away. Values and gradients are those of the padded computation, up to rounding; a grid
of 8^3 in windows of 7^3 costs an eighth of it.

Windows that hold the same tokens of the grid, seen from inside, are computed together.

Suffixes: T tokens of the grid, N places of a window, R and P those that hold tokens and padding,
W windows, H heads, D channels of a head, S spatial axes.
"""

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from monai.networks.nets.swin_unetr import WindowAttention
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

APART = -100.0
"""What MONAI adds to the logit of two tokens that only the shift brought into one window."""


def attend_in_windows(
    x_BSC: Tensor, attention: WindowAttention, window: tuple[int, ...], shift: tuple[int, ...]
) -> Tensor:
    """Return what every token of a grid gathers from the others of its window.

    Args:
        x_BSC: Normalised tokens, ``(B, *grid, C)`` with two or three spatial axes.
        attention: The weights. There is no dropout.
        window: Places of a window along each axis, at most the grid's padded size.
        shift: How far windows are moved along each axis.
    """
    batch, *grid, channels = x_BSC.shape
    layout = window_layout(tuple(grid), window, shift, x_BSC.device)
    x_BTC = _reordered(x_BSC.reshape(batch, -1, channels), layout.order_T, layout.inverse_T)
    qkv_BTC = attention.qkv(x_BTC)
    bias_HNN = _position_bias(attention, math.prod(window))
    tokens = [group.windows * len(group.real_R) for group in layout.groups]
    parts = zip(torch.split(qkv_BTC, tokens, dim=1), layout.groups, strict=True)
    y_BTC = torch.cat([_attend(part, group, bias_HNN, attention) for part, group in parts], dim=1)
    return _reordered(attention.proj(y_BTC), layout.inverse_T, layout.order_T).view(x_BSC.shape)


@dataclass(frozen=True)
class WindowGroup:
    """Windows that hold tokens and padding at the same places."""

    windows: int
    real_R: Tensor
    """Places that hold tokens of the grid."""
    padded_P: Tensor
    """Places that hold padding."""
    apart_RN: Tensor | None
    """What is added to logits between places, tokens first; None where it is 0 everywhere."""


@dataclass(frozen=True)
class WindowLayout:
    """Which token stands where once the grid is cut into windows."""

    order_T: Tensor
    """The token at every place, group by group and window by window."""
    inverse_T: Tensor
    """The place of every token."""
    groups: tuple[WindowGroup, ...]


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def window_layout(
    grid: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], device: torch.device
) -> WindowLayout:
    """Cut a grid into shifted windows; what was cut once is remembered.

    Args:
        grid: Tokens along each axis.
        window: Places of a window along each axis.
        shift: How far windows are moved along each axis.
        device: Where the tensors of the layout lie.
    """
    return _cut(grid, window, shift, device)


@lru_cache(maxsize=64)
def _cut(
    grid: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], device: torch.device
) -> WindowLayout:
    with torch.inference_mode(mode=False):  # what is remembered may serve a training next
        return _layout(grid, window, shift, device)


def _layout(
    grid: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], device: torch.device
) -> WindowLayout:
    axes = [_axis_groups(*axis) for axis in zip(grid, window, shift, strict=True)]
    order, groups = [], []
    for kinds in itertools.product(*axes):
        inside = [np.flatnonzero(kind.real_N) for kind in kinds]
        cells = [kind.tokens_WN[:, places] for kind, places in zip(kinds, inside, strict=True)]
        order.append(_outer(cells, grid).ravel())
        real = _ravel(inside, window)
        padded = np.setdiff1d(np.arange(math.prod(window)), real)
        groups.append(
            WindowGroup(
                windows=math.prod(len(kind.tokens_WN) for kind in kinds),
                real_R=torch.from_numpy(real).to(device),
                padded_P=torch.from_numpy(padded).to(device),
                apart_RN=_apart([kind.region_N for kind in kinds], real, padded, device),
            )
        )
    order_T = torch.from_numpy(np.concatenate(order))
    return WindowLayout(order_T.to(device), order_T.argsort().to(device), tuple(groups))


class _AxisGroup(NamedTuple):
    """Windows of one axis that look alike from inside."""

    real_N: NDArray[np.bool_]
    region_N: NDArray[np.int64]
    tokens_WN: NDArray[np.int64]


def _axis_groups(size: int, window: int, shift: int) -> list[_AxisGroup]:
    """Windows of one axis; tokens beyond ``size`` are padding, and the shift wraps around."""
    padded = -(-size // window) * window
    place = np.arange(padded)
    token_WN = ((place + shift) % padded).reshape(-1, window)
    wrapped_WN = (place >= padded - shift).astype(np.int64).reshape(-1, window)
    alike: dict[tuple[bytes, bytes], list[int]] = defaultdict(list)
    for row, (tokens, region) in enumerate(zip(token_WN, wrapped_WN, strict=True)):
        alike[(tokens < size).tobytes(), region.tobytes()].append(row)
    groups = [
        _AxisGroup(token_WN[rows[0]] < size, wrapped_WN[rows[0]], token_WN[rows])
        for rows in alike.values()
    ]
    return [group for group in groups if group.real_N.any()]


def _outer(cells: list[NDArray[np.int64]], grid: tuple[int, ...]) -> NDArray[np.int64]:
    """Combine ``(windows, places)`` of every axis to ``(windows..., places...)`` flat tokens."""
    axes = len(cells)
    index = []
    for axis, cell in enumerate(cells):
        shape = [1] * (2 * axes)
        shape[axis], shape[axes + axis] = cell.shape
        index.append(cell.reshape(shape))
    flat: NDArray[np.int64] = np.ravel_multi_index(np.broadcast_arrays(*index), grid)
    return flat


def _ravel(inside: list[NDArray[np.int64]], window: tuple[int, ...]) -> NDArray[np.int64]:
    flat: NDArray[np.int64] = np.ravel_multi_index(np.meshgrid(*inside, indexing="ij"), window)
    return flat.ravel()


def _apart(
    regions: list[NDArray[np.int64]],
    real: NDArray[np.int64],
    padded: NDArray[np.int64],
    device: torch.device,
) -> Tensor | None:
    """Tokens that came from opposite ends of an axis do not see each other."""
    region_NS = np.stack([axis.ravel() for axis in np.meshgrid(*regions, indexing="ij")], axis=1)
    other_NS = region_NS[np.concatenate([real, padded])]
    apart_RN = (region_NS[real][:, None] != other_NS).any(axis=2)
    if not apart_RN.any():
        return None
    return torch.from_numpy(np.where(apart_RN, APART, 0.0).astype(np.float32)).to(device)


def _position_bias(attention: WindowAttention, places: int) -> Tensor:
    # A window smaller than the table's takes the table's first rows, as the published weights do.
    index_NN = cast(Tensor, attention.relative_position_index)[:places, :places]
    table = attention.relative_position_bias_table
    return table.index_select(0, index_NN.reshape(-1)).T.reshape(-1, places, places)


def _attend(
    qkv_BTC: Tensor, group: WindowGroup, bias_HNN: Tensor, attention: WindowAttention
) -> Tensor:
    """Attention inside every window of one group, ``(B, W * R, C)``."""
    batch, heads, places = qkv_BTC.shape[0], attention.num_heads, len(group.real_R)
    shape = (batch * group.windows, places, 3, heads, -1)
    q_WHRD, k_WHRD, v_WHRD = qkv_BTC.reshape(shape).permute(2, 0, 3, 1, 4)
    bias_HRN = _logit_bias(group, bias_HNN)
    if len(group.padded_P):
        k_WHRD, v_WHRD = _with_padding(k_WHRD, v_WHRD, attention.qkv.bias)
    y_WHRD = _weigh(q_WHRD, k_WHRD, v_WHRD, bias_HRN, attention.scale)
    return y_WHRD.transpose(1, 2).reshape(batch, group.windows * places, -1)


def _logit_bias(group: WindowGroup, bias_HNN: Tensor) -> Tensor:
    """What is added to the logits: one column per token, and one for all of the padding."""
    order_N = torch.cat([group.real_R, group.padded_P])
    bias_HRN = bias_HNN.index_select(1, group.real_R).index_select(2, order_N)
    if group.apart_RN is not None:
        bias_HRN = bias_HRN + group.apart_RN
    if not len(group.padded_P):
        return bias_HRN
    tokens_HRR, padding_HRP = bias_HRN.tensor_split([len(group.real_R)], dim=2)
    return torch.cat([tokens_HRR, padding_HRP.logsumexp(2, keepdim=True)], dim=2)


def _with_padding(k_WHRD: Tensor, v_WHRD: Tensor, bias_C: Tensor | None) -> tuple[Tensor, Tensor]:
    """Append the key and the value of padding, which are the biases of the projection."""
    windows, heads, _, dim = k_WHRD.shape
    if bias_C is None:
        return F.pad(k_WHRD, (0, 0, 0, 1)), F.pad(v_WHRD, (0, 0, 0, 1))
    _, key, value = bias_C.to(k_WHRD.dtype).view(3, 1, heads, 1, dim).expand(3, windows, -1, 1, -1)
    return torch.cat([k_WHRD, key], dim=2), torch.cat([v_WHRD, value], dim=2)


def _weigh(
    q_WHRD: Tensor, k_WHND: Tensor, v_WHND: Tensor, bias_HRN: Tensor, scale: float
) -> Tensor:
    if q_WHRD.is_cuda:
        bias_WHRN = bias_HRN.to(q_WHRD.dtype).expand(q_WHRD.shape[0], -1, -1, -1)
        return F.scaled_dot_product_attention(
            q_WHRD, k_WHND, v_WHND, attn_mask=bias_WHRN, scale=scale
        )
    logits_WHRN = (q_WHRD * scale) @ k_WHND.mT
    return logits_WHRN.add_(bias_HRN).softmax(-1).to(v_WHND.dtype) @ v_WHND


def _reordered(x_BTC: Tensor, order_T: Tensor, inverse_T: Tensor) -> Tensor:
    reordered: Tensor = _Reorder.apply(x_BTC, order_T, inverse_T)  # type: ignore[no-untyped-call]
    return reordered


class _Reorder(torch.autograd.Function):
    """A permutation of tokens; its gradient is the inverse one, where indexing would add up."""

    @staticmethod
    def forward(ctx: Any, x_BTC: Tensor, order_T: Tensor, inverse_T: Tensor) -> Tensor:
        ctx.save_for_backward(inverse_T)
        return x_BTC.index_select(1, order_T)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0].index_select(1, ctx.saved_tensors[0]), None, None
