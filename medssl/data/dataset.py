"""A crop store as an endless dataset: sample index to the views of one region."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch.utils.data
from numpy.typing import NDArray
from pydantic import Field

from medssl.config.base import Config
from medssl.data.groups import contrasts_of, usable_keys
from medssl.data.normalize import IntensityConfig
from medssl.data.sampling import Stream, VolumeOrder, generator
from medssl.data.store import CropStore
from medssl.data.views import WHOLE, Band, Region, Sample, SequenceCrop, ViewSpec, joined
from medssl.errors import InputError


class DatasetConfig(Config):
    """How samples are taken from a crop store."""

    split: str | None = "train"
    """The split whose volumes are used; null for all of them."""
    intensity: IntensityConfig = IntensityConfig()
    """How stored values become [0, 1]."""
    min_foreground: Annotated[float, Field(ge=0, le=1)] = 0.3
    """A region with at least this share of body is taken at once."""
    candidates: Annotated[int, Field(gt=0)] = 4
    """Regions tried before the one with the most body is taken."""


class CropDataset(torch.utils.data.Dataset[Sample]):
    """Every sample is a pure function of the seed and its index, in any process and any order."""

    def __init__(
        self,
        store: CropStore,
        views: ViewSpec[Any],
        config: DatasetConfig,
        *,
        samples: int,
        batch_size: int,
        seed: int,
    ) -> None:
        """Open a dataset over one split of a store.

        Args:
            store: Where the volumes are.
            views: What the method asks for.
            config: Which volumes, how scaled, which regions of them.
            samples: The dataset's length; indices beyond it stay valid.
            batch_size: Consecutive indices, from a multiple of it on, that must not repeat a
                volume.
            seed: Decides the order of the volumes and everything drawn.

        Raises:
            InputError: The store has no volume in this split, or none in a group that serves.
        """
        self.store, self.views, self.config = store, views, config
        self.samples, self.seed = samples, seed
        self.keys = usable_keys(store, views, config.split)
        if not self.keys:
            raise InputError(
                f"the crop store has no volume in the split {config.split!r}: {store.path}",
                hint="look at the splits of the selection it was prepared from",
            )
        self.order = VolumeOrder(len(self.keys), batch_size, seed)

    def __len__(self) -> int:
        return self.samples

    def volume_key(self, sample_index: int) -> str:
        """Return the key of the volume that a sample is cut from.

        Of a scan with several reconstructions, every epoch takes the next one in turn.
        """
        position = self.order.volume_of(sample_index)
        views = self.store.views(self.keys[position])
        if self.views.sequences > 1:  # groups hold the scans themselves
            return self.keys[position]
        if len(views) == 1:
            return views[0]
        first = int(generator(self.seed, position, Stream.VIEW).integers(len(views)))
        return views[(first + self.order.epoch_of(sample_index)) % len(views)]

    def __getitem__(self, sample_index: int) -> Sample:
        key = self.volume_key(sample_index)
        rng = generator(self.seed, sample_index, Stream.SAMPLE)
        return joined([self._part(key, rng, part) for part in range(self.views.parts)])

    def _part(self, key: str, rng: np.random.Generator, part: int) -> Sample:
        chosen = self._chosen(key, rng)
        entry, region_voxels = self.store.entry(chosen[0]), self.views.region_voxels
        bands, count = self.views.band(part), self.config.candidates
        starts_N3 = draw_region_starts(rng, count, entry.shape, region_voxels, bands)
        if entry.slice_weights is not None and entry.slice_axis is not None:
            axis = entry.slice_axis
            starts_N3[:, axis] = draw_weighted_starts(
                rng, count, entry.slice_weights, region_voxels[axis], bands[axis]
            )
        drawn = self.views.draw(rng)
        start_IJK, stored_IJK = self._read_body(chosen[0], starts_N3)
        scaled_IJK = self.config.intensity.normalize(stored_IJK, entry)
        sequences = [self._sequence(each, start_IJK) for each in chosen if len(chosen) > 1]
        region = Region(scaled_IJK, start_IJK, entry.shape, tuple(sequences))
        return self.views.cut(region, drawn)

    def _chosen(self, key: str, rng: np.random.Generator) -> tuple[str, ...]:
        """Return the volumes that a sample shows: one, or some of the group it begins."""
        if self.views.sequences == 1:
            return (key,)
        group = self.store.group(key)
        return tuple(group[n] for n in self.views.choose(contrasts_of(self.store, group), rng))

    def _sequence(self, key: str, start_IJK: tuple[int, int, int]) -> SequenceCrop:
        entry, scale = self.store.entry(key), self.config.intensity
        stored_IJK = self.store.read(key, start_IJK, self.views.region_voxels)
        scaled_IJK = scale.normalize(stored_IJK, entry)
        return SequenceCrop(scaled_IJK, entry.contrast, scale.limits(entry))

    def _read_body(
        self, key: str, starts_N3: NDArray[np.int64]
    ) -> tuple[tuple[int, int, int], NDArray[Any]]:
        """Return the first candidate with enough body in it, or the one with the most."""
        threshold, size_IJK = self.store.entry(key).foreground_above, self.views.region_voxels
        candidates = list(dict.fromkeys(map(tuple, starts_N3.tolist())))
        if len(candidates) == 1:  # no choice, so nothing to count
            return candidates[0], self.store.read(key, candidates[0], size_IJK)
        best_share, best_start_IJK, best_IJK = -1.0, (0, 0, 0), np.empty(0)
        for i, j, k in candidates:
            region_IJK = self.store.read(key, (i, j, k), size_IJK)
            share = np.count_nonzero(region_IJK > threshold) / region_IJK.size
            if share > best_share:
                best_share, best_start_IJK, best_IJK = share, (i, j, k), region_IJK
            if share >= self.config.min_foreground:
                break
        return best_start_IJK, best_IJK


def first_and_last_start(size: int, length: int, band: Band) -> tuple[int, int]:
    """Return the first and the last start of regions whose centre lies in a band of the volume.

    Bands that share a border share no start. Where a band holds none it is the nearest one; where
    the volume is shorter than the region there is one, and it centres the volume.

    Args:
        size: Voxels of the volume along this axis.
        length: Voxels of a region along it.
        band: Shares of the volume.
    """
    room = size - length
    if room < 0:
        return room // 2, room // 2
    # Rounded, so that a share such as 2 / 3 does not miss the start it stands for.
    first, end = (math.ceil(round(share * size - length / 2, 6)) for share in band)
    first = min(max(first, 0), room)
    return first, max(min(end - 1, room), first)


def draw_region_starts(
    rng: np.random.Generator,
    count: int,
    shape: Sequence[int],
    region_voxels: Sequence[int],
    bands: Sequence[Band] = WHOLE,
) -> NDArray[np.int64]:
    """Draw first voxels of regions, uniform over all that lie inside the volume and the bands.

    On an axis where the volume is shorter than the region there is one choice: the volume is
    centred, and what surrounds it is padding.

    Returns:
        ``(count, 3)`` first voxels, negative where padding comes first.
    """
    axes = zip(shape, region_voxels, bands, strict=True)
    first_3, last_3 = np.array([first_and_last_start(*axis) for axis in axes]).T
    return rng.integers(first_3, last_3, size=(count, 3), endpoint=True)


def draw_weighted_starts(
    rng: np.random.Generator,
    count: int,
    weights: Sequence[float],
    length: int,
    band: Band = WHOLE[0],
) -> NDArray[np.int64]:
    """Draw first planes of regions, each in proportion to the summed weight of its planes.

    A region is worth what it holds, not what lies at its centre: crops at the border of a volume
    have no centre there, and equal weights give every start the same chance, as without weights.

    Args:
        rng: Where the draws come from.
        count: How many.
        weights: One per plane of the volume along this axis.
        length: Planes of a region along it.
        band: Between where, as a share of the volume, regions have their centre.

    Returns:
        ``(count,)`` first planes inside the volume; where it is shorter than the region, the one
        that centres it.
    """
    first, last = first_and_last_start(len(weights), length, band)
    if first == last:
        return np.full(count, first, np.int64)
    summed = np.concatenate([[0.0], np.cumsum(np.asarray(weights, np.float64))])
    worth = np.maximum(summed[length:] - summed[:-length], 0.0)[first : last + 1]
    if worth.sum() <= 0:
        return rng.integers(first, last, size=count, endpoint=True)
    chances = np.cumsum(worth)
    drawn = np.searchsorted(chances, rng.random(count) * chances[-1], side="right")
    starts: NDArray[np.int64] = first + np.minimum(drawn, np.flatnonzero(worth)[-1])
    return starts
