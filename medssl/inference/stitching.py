"""Windows over a volume, joined slab by slab: what MONAI's sliding window gives, row by row.

MONAI keeps the logits of the whole volume; here a slab is handed on as soon as no later window
reaches it. Windows, their order, their weights and every addition are those of MONAI's
``sliding_window_inference``, so the numbers are the same.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import SlidingWindowInferer
from monai.utils import ensure_tuple_rep
from torch import Tensor

Forward = Callable[[Tensor], Tensor]
Slab = tuple[int, Tensor]
"""Index of the first row, and the rows: ``(C, rows, J, K)``."""


class Stitcher:
    """Runs a network over the windows of one volume."""

    def __init__(
        self, inferer: SlidingWindowInferer, device: torch.device, joined_on: torch.device
    ) -> None:
        """Prepare.

        Args:
            inferer: Says how large windows are, how they overlap and how they are weighted.
            device: Where windows are seen.
            joined_on: Where they are joined.
        """
        self._inferer, self._device, self._joined_on = inferer, device, joined_on

    def slabs(self, image_1IJK: Tensor, forward: Forward) -> Iterator[Slab]:
        """Yield the logits of a volume in slabs of rows, from the first to the last."""
        size = image_1IJK.shape[1:]
        window = ensure_tuple_rep(self._inferer.roi_size, len(size))
        overlaps = ensure_tuple_rep(self._inferer.overlap, len(size))
        padded, before = _padded(image_1IJK, window, self._inferer)
        steps = [
            side if side == whole else max(1, int(side * (1 - overlap)))
            for side, whole, overlap in zip(window, padded.shape[1:], overlaps, strict=True)
        ]
        places = dense_patch_slices(padded.shape[1:], window, steps)
        inside = [slice(start, start + side) for start, side in zip(before, size, strict=True)]
        for start, rows in self._joined(padded, places, window, forward):
            first, last = max(start, before[0]), min(start + rows.shape[1], inside[0].stop)
            if first < last:  # not all of it is padding
                kept = rows[:, first - start : last - start, inside[1], inside[2]]
                yield first - before[0], kept

    def _joined(
        self, image_1IJK: Tensor, places: Any, window: tuple[int, ...], forward: Forward
    ) -> Iterator[Slab]:
        weight = self._weight(window)
        reached, total, weights = 0, None, None
        at_once = self._inferer.sw_batch_size
        for first in range(0, len(places), at_once):
            batch = places[first : first + at_once]
            seen = torch.stack([image_1IJK[(slice(None), *place)] for place in batch])
            logits = forward(seen.to(self._device)).float()
            logits *= weight
            logits = logits.to(self._joined_on)
            for place, one in zip(batch, logits, strict=True):
                if total is None or weights is None:
                    rows = (window[0], *image_1IJK.shape[2:])
                    total = torch.zeros((len(one), *rows), device=self._joined_on)
                    weights = torch.zeros(rows, device=self._joined_on)
                if place[0].start > reached:  # no later window reaches what lies before
                    done = place[0].start - reached
                    yield reached, total[:, :done] / weights[:done]
                    _move_up(total, done, dim=1)
                    _move_up(weights, done, dim=0)
                    reached = place[0].start
                total[:, :, place[1], place[2]] += one
                weights[:, place[1], place[2]] += weight.to(self._joined_on)
        if total is not None and weights is not None:
            total /= weights
            yield reached, total

    def _weight(self, window: tuple[int, ...]) -> Tensor:
        weight: Tensor = compute_importance_map(
            window,
            mode=self._inferer.mode,
            sigma_scale=self._inferer.sigma_scale,
            device=self._device,
            dtype=torch.float32,
        )
        return weight


def _padded(
    image_1IJK: Tensor, window: tuple[int, ...], inferer: SlidingWindowInferer
) -> tuple[Tensor, list[int]]:
    """Return the image, at least as large as a window, and how much was added before each axis."""
    missing = [max(side - have, 0) for side, have in zip(window, image_1IJK.shape[1:], strict=True)]
    before = [count // 2 for count in missing]
    if not any(missing):
        return image_1IJK, before
    sides = [
        part
        for start, count in zip(before[::-1], missing[::-1], strict=True)
        for part in (start, count - start)
    ]
    padded = F.pad(image_1IJK, sides, mode=str(inferer.padding_mode), value=inferer.cval)
    return padded, before


def _move_up(rows: Tensor, done: int, dim: int) -> None:
    """Drop the first rows, move the others to their place, and leave zeros behind them."""
    kept = rows.shape[dim] - done
    for row in range(kept):  # one by one, so that no copy of all is needed
        rows.select(dim, row).copy_(rows.select(dim, row + done))
    rows.narrow(dim, kept, done).zero_()
