"""A segmentation made slab by slab, so that a large scan needs little memory.

Neither the logits nor the probabilities of a whole volume ever exist: a slab of logits becomes
probabilities, these are resampled to the scan's own grid, and only the decision is kept. The
decision is that of the model's own postprocessing, which a MONAI bundle runs on everything at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medssl.data.preprocessing import build, compose
from medssl.inference.budget import rows_that_fit, stitching_device
from medssl.inference.grids import Grid, Way, spaced_grid, turned_back, turned_grid
from medssl.inference.predicted import Masks
from medssl.inference.stitching import Forward, Slab, Stitcher
from medssl.io.geometry import axis_codes
from medssl.io.volume import Volume
from medssl.tasks.segmentation import Segmentation
from medssl.training.task_model import ModelDescription

_SPATIAL = ("Orientationd", "Spacingd")
_READING = ("LoadImaged", "EnsureChannelFirstd")
_INSIDE = 0.5
"""Probability from which on a voxel is in a region."""
_POSSIBLE = 1e-4
"""How far below the least that can win a channel may stay for rounding to let it win."""
_RESAMPLED_BYTES = 8 + 4 + 4
"""Of one resampled value: float64, float32, and as much again while it is compared."""
_COORDINATE_BYTES = 3 * 8


@dataclass(frozen=True, kw_only=True)
class SlabSegmenter:
    """Segments volumes with one model."""

    about: ModelDescription
    task: Segmentation
    device: torch.device

    def see(self, volume: Volume) -> Tensor:
        """Return what the network sees, ``(1, I, J, K)`` on the CPU."""
        turned_IJK, turned = turned_grid(volume)
        way = Way(source=turned, target=spaced_grid(turned, self.about.preprocessing))
        image_1IJK = torch.empty((1, *way.target.shape))
        per_row = int(np.prod(way.target.shape[1:])) * (_RESAMPLED_BYTES + _COORDINATE_BYTES)
        for start, stop in _ranges(0, way.target.shape[0], rows_that_fit(per_row)):
            begin, end = way.needed(start, stop)
            rows = np.array(turned_IJK[begin:end], dtype=np.float32, order="C")
            image_1IJK[:, start:stop] = way.slab(torch.from_numpy(rows)[None], begin, start, stop)
        rest = [
            spec
            for spec in self.about.preprocessing
            if spec["_target_"] not in (*_SPATIAL, *_READING)
        ]
        prepared = compose(rest)({"image": image_1IJK})["image"]
        return torch.as_tensor(prepared)

    def segment(self, volume: Volume, image_1IJK: Tensor, forward: Forward) -> Masks:
        """Return the masks of ``volume``, of which the network sees ``image_1IJK``."""
        _, turned = turned_grid(volume)
        back = Way(source=spaced_grid(turned, self.about.preprocessing), target=turned)
        joined_on = stitching_device(
            self.device, self.task.out_channels, self.about.patch_voxels, back.source.shape
        )
        stitcher = Stitcher(build(self.about.inferer), self.device, joined_on)
        decided = self._decided(stitcher.slabs(image_1IJK, forward), back)
        return self._masks(decided, turned, axis_codes(volume.affine_ras))

    def _decided(self, slabs: Iterator[Slab], back: Way) -> Iterator[tuple[int, Tensor]]:
        """Yield decisions on the turned grid: first row, and ``(C, rows, J, K)`` uint8."""
        held: Tensor | None = None
        first = written = 0
        rows, last = back.target.shape[0], back.source.shape[0]
        for start, logits in slabs:
            new = self._activated(logits)
            held = new if held is None else torch.cat([held, new], dim=1)
            reached = start + new.shape[1]
            ready = written
            while ready < rows and back.needed(written, ready + 1)[1] <= reached:
                ready += 1
            if reached == last and ready < rows:
                raise AssertionError("rows of the scan lie beyond what the network saw")
            for begin, end in _ranges(written, ready, self._rows_at_once(back)):
                yield begin, self._decision(back, held, first, begin, end)
            written = ready
            if written < rows:
                keep = min(back.needed(written, written + 1)[0], reached)
                held, first = held[:, keep - first :].clone(), max(keep, first)

    def _rows_at_once(self, back: Way) -> int:
        per_voxel = self.task.out_channels * _RESAMPLED_BYTES + _COORDINATE_BYTES
        return rows_that_fit(int(np.prod(back.target.shape[1:])) * per_voxel)

    def _activated(self, logits_CSJK: Tensor) -> Tensor:
        if self.task.config.regions:
            return torch.sigmoid(logits_CSJK)
        return torch.softmax(logits_CSJK, dim=0)

    def _decision(self, back: Way, held: Tensor, first: int, start: int, stop: int) -> Tensor:
        """Return regions ``(C, rows, J, K)``, or the one class of each voxel ``(1, rows, J, K)``.

        Interpolated probabilities of classes sum to one, so a channel that stays below one by the
        number of channels wins nowhere, and is not resampled.
        """
        channels, regions = len(held), bool(self.task.config.regions)
        begin, end = back.needed(start, stop)
        most_C = held[:, begin - first : end - first].flatten(1).amax(1)
        least = _INSIDE if regions else 1 / channels
        possible = torch.nonzero(most_C >= least - _POSSIBLE).flatten()
        size = (channels if regions else 1, stop - start, *back.target.shape[1:])
        decided = torch.zeros(size, dtype=torch.uint8)
        if not regions and len(possible) == 1:
            return decided.fill_(int(possible[0]))
        if len(possible):
            slab = back.slab(held[possible, begin - first : end - first], begin, start, stop)
            if regions:
                decided[possible.cpu()] = (slab >= _INSIDE).to("cpu", torch.uint8)
            else:
                decided[0] = possible[slab.argmax(0)].to("cpu", torch.uint8)
        return decided

    def _masks(self, decided: Iterator[tuple[int, Tensor]], turned: Grid, codes: str) -> Masks:
        regions = len(self.task.config.regions)
        whole = np.zeros((regions or 1, *turned.shape), np.uint8)
        for start, rows in decided:
            whole[:, start : start + rows.shape[1]] = rows.numpy()
        back = [turned_back(one, turned, codes) for one in whole]
        if regions:
            return Masks(names=self.task.answers, regions_CIJK=np.stack(back).view(np.bool_))
        return Masks(names=self.task.answers, numbers_IJK=back[0])


def can_segment(about: ModelDescription) -> bool:
    """Return whether the steps of a model are those that this way of going knows."""
    before = {spec["_target_"] for spec in about.preprocessing}
    known = {*_READING, *_SPATIAL, "EnsureTyped"}
    scaling = {"ScaleIntensityRanged", "ScaleIntensityRangePercentilesd"}
    after = [spec["_target_"] for spec in about.postprocessing]
    return (
        "Orientationd" in before
        and before <= known | scaling
        and about.inferer["_target_"] == "SlidingWindowInferer"
        and after == ["Activationsd", "Invertd", "AsDiscreted"]
    )


def _ranges(start: int, stop: int, at_most: int) -> Iterator[tuple[int, int]]:
    for begin in range(start, stop, at_most):
        yield begin, min(begin + at_most, stop)
