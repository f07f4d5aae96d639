"""How much memory there is, and what fits into it."""

from math import prod

import psutil  # type: ignore[import-untyped]
import torch

from medssl.io.reasons import reject

_SLAB_BYTES = 256 * 2**20
"""What a slab may take: more would not be faster."""
_SHARE = 0.25
"""Share of the memory left that a slab may take where there is little."""
_STITCHING_COPIES = 4
"""A slab of logits, its sum so far, its probabilities, and those held for the next one."""


def free_bytes(device: torch.device) -> int:
    """Return how much memory can still be had on ``device``."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return int(psutil.virtual_memory().available)


def rows_that_fit(row_bytes: int) -> int:
    """Return how many rows of so many bytes are worked on at once; at least one."""
    room = min(_SLAB_BYTES, _SHARE * free_bytes(torch.device("cpu")))
    return max(1, int(room // row_bytes))


def stitching_device(
    device: torch.device, channels: int, window: tuple[int, int, int], shape: tuple[int, int, int]
) -> torch.device:
    """Return where windows are joined: where they are seen, or in main memory if that is full.

    Raises:
        RejectedFileError: ``out_of_memory``: neither has room for one row of windows.
    """
    sides = [max(side, whole) for side, whole in zip(window[1:], shape[1:], strict=True)]
    needed = _STITCHING_COPIES * channels * window[0] * prod(sides) * 4
    for place in (device, torch.device("cpu")):
        if needed < free_bytes(place):
            return place
    raise reject("out_of_memory")
