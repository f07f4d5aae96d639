"""One published tensor into the place of another shape: more channels, more axes, other grids."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.models.encoders.base import Encoder
from medssl.models.unet import INTERPOLATION

Kind = Literal["kernel", "raising kernel", "window table", "place table", "other"]

_PLACE_AXES = 4
"""Least axes of a table of learned places: ``(1, D, I, J)``."""


@dataclass(frozen=True)
class Slot:
    """The place of a tensor in a network."""

    value: Tensor
    kind: Kind = "other"
    stem: bool = False
    """Whether it is a kernel over the channels of the network's input."""
    window: tuple[int, ...] = ()
    """The window that a table of relative positions is for."""


def slots(module: nn.Module, stems: frozenset[str] = frozenset()) -> dict[str, Slot]:
    """Return the places of a network's tensors by their names.

    Args:
        module: The network.
        stems: The names of its kernels over the input; see :func:`stem_names`.
    """
    owners = dict(module.named_modules())
    found = {}
    for name, value in module.state_dict().items():
        owner = owners[name.rpartition(".")[0]]
        window = tuple(getattr(owner, "window_size", ()))
        found[name] = Slot(value, _kind(owner, name, value), name in stems, window)
    return found


def _kind(owner: nn.Module, name: str, value: Tensor) -> Kind:
    last = name.rpartition(".")[2]
    if last == "weight" and isinstance(owner, nn.ConvTranspose2d | nn.ConvTranspose3d):
        return "raising kernel"
    if last == "weight" and isinstance(owner, nn.Conv2d | nn.Conv3d):
        return "kernel"
    if last.startswith("relative_position"):
        return "window table"
    return "place table" if value.ndim >= _PLACE_AXES and len(value) == 1 else "other"


def stem_names(encoder: Encoder) -> frozenset[str]:
    """Return the names of the tensors whose shape depends on how many channels the input has."""
    config: Any = encoder.config
    if not hasattr(config, "in_channels"):
        return frozenset()
    wider = config.model_copy(update={"in_channels": config.in_channels + 1})
    with torch.device("meta"):
        other = wider.build().state_dict()
    here = encoder.state_dict()
    return frozenset(name for name, value in here.items() if value.shape != other[name].shape)


def fitted(
    theirs: Tensor, slot: Slot, *, window_places: int | None = None
) -> tuple[Tensor, str] | None:
    """Return a tensor for ``slot`` and in words what was changed; None where it cannot fit.

    Args:
        theirs: The tensor of the file.
        slot: Its place here.
        window_places: For a table of relative positions, the places of the window that it is
            for, where the file tells: some tables are as long in 2D as in 3D.
    """
    if slot.kind == "window table" and not slot.value.is_floating_point():
        return _fitted_index(theirs, slot.value)
    if theirs.is_floating_point() != slot.value.is_floating_point():
        return None
    changed: tuple[Tensor, str] | None = None
    if slot.kind == "window table":
        changed = _fitted_window(theirs, slot, window_places)
    elif theirs.shape == slot.value.shape:
        changed = theirs, ""
    elif slot.kind in ("kernel", "raising kernel"):
        changed = _fitted_kernel(theirs, slot)
    elif slot.kind == "place table":
        changed = _fitted_places(theirs, slot.value)
    return changed if changed is not None and changed[0].shape == slot.value.shape else None


def _fitted_kernel(theirs: Tensor, slot: Slot) -> tuple[Tensor, str]:
    words = []
    if (theirs.ndim, slot.value.ndim) == (4, 5):
        theirs = inflate(theirs, slot.value.shape[-1], raising=slot.kind == "raising kernel")
        words.append("2D to 3D")
    before, after = theirs.shape[1], slot.value.shape[1]
    if slot.stem and before != after:
        theirs = spread(theirs, after)
        words.append(f"{before} to {after} input channels")
    return theirs, ", ".join(words)


def inflate(kernel_OCIJ: Tensor, size: int, *, raising: bool = False) -> Tensor:
    """Return a kernel for volumes that answers to equal slices as the given one to each of them.

    Carreira and Zisserman 2017 (arXiv:1705.07750): repeated along the new axis and divided by
    its length. A transposed convolution whose stride is its kernel's size (``raising``) adds
    nothing up along an axis, so there the kernel is only repeated.

    Args:
        kernel_OCIJ: The kernel for slices; its axes become the first two of the new one.
        size: Length of the third.
        raising: Whether it is a transposed convolution's.
    """
    kernel_OCIJK = kernel_OCIJ[..., None].expand(*kernel_OCIJ.shape, size)
    return kernel_OCIJK.clone() if raising else kernel_OCIJK / size


def spread(kernel: Tensor, channels: int) -> Tensor:
    """Return a kernel over ``channels`` that answers to one image in all of them as before.

    Every channel gets the kernels' sum over their own channels, divided by ``channels``: of one
    channel, repeat / N.
    """
    once = kernel.sum(1, keepdim=True) / channels
    return once.repeat_interleave(channels, dim=1)


def _fitted_index(theirs: Tensor, mine: Tensor) -> tuple[Tensor, str]:
    """Return the index into a table of positions: always ours, for it follows from the window.

    A file cast to fp16 as a whole holds it rounded: above 2048 fp16 has only every other number.
    """
    alike = theirs.shape == mine.shape and torch.equal(theirs.to(mine), mine)
    return mine, "" if alike else "kept, it follows from the window"


def _fitted_window(
    theirs: Tensor, slot: Slot, window_places: int | None
) -> tuple[Tensor, str] | None:
    """Return a table of positions, from a window of another size where it is of one."""
    dims = len(slot.window)
    if theirs.shape == slot.value.shape:
        same_axes = not dims or window_places in (None, math.prod(slot.window))
        return (theirs, "") if same_axes else None
    if not dims or theirs.ndim == 0 or theirs.shape[1:] != slot.value.shape[1:]:
        return None
    side = round(len(theirs) ** (1 / dims))
    window = (side + 1) // 2
    if (2 * window - 1) ** dims != len(theirs) or window_places not in (None, window**dims):
        return None
    words = f"window {window} to {'x'.join(map(str, slot.window))}"
    return resized_table(theirs, (window,) * dims, slot.window), words


def resized_table(table_PH: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """Return a relative position table for windows of another size, interpolated linearly.

    The largest distance of one window becomes that of the other (Swin, arXiv:2103.14030).

    Args:
        table_PH: A row for each of the ``prod(2 w - 1)`` distances, a column for each head.
        old: The window it is for.
        new: The window wanted.
    """
    heads = table_PH.shape[1]
    grid = table_PH.T.reshape(1, heads, *(2 * w - 1 for w in old)).float()
    wanted = [2 * w - 1 for w in new]
    resized = F.interpolate(grid, wanted, mode=INTERPOLATION[len(new)], align_corners=True)
    return resized.reshape(heads, -1).T.to(table_PH.dtype)


def _fitted_places(theirs: Tensor, mine: Tensor) -> tuple[Tensor, str] | None:
    """Return a table of learned places, ``(1, D, *grid)``, on another grid."""
    words = []
    if (theirs.ndim, mine.ndim) == (4, 5):
        theirs = theirs[..., None]
        words.append("2D to 3D")
    if theirs.ndim != mine.ndim or theirs.shape[:2] != mine.shape[:2]:
        return None
    old, new = theirs.shape[2:], mine.shape[2:]
    words.append(f"grid {'x'.join(map(str, old))} to {'x'.join(map(str, new))}")
    resized = F.interpolate(theirs.float(), tuple(new), mode=INTERPOLATION[len(new)])
    return resized.to(theirs.dtype), ", ".join(words)
