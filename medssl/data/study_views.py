"""The images of a study as a network sees them beside its report: slices, or whole series.

Nothing is mirrored unless the words are, too: a report says left and right.
"""

import itertools
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from medssl.data.annotations import HEAT, ORGANS, Annotations
from medssl.data.appearance import AppearanceConfig, draw_appearance
from medssl.data.augment import CropChange, never
from medssl.data.crop_views import SLICES, ViewDraw, Zoom, cut_map, cut_view
from medssl.data.dataset import draw_region_starts
from medssl.data.entry import StoreEntry
from medssl.data.normalize import IntensityConfig
from medssl.data.store import CropStore
from medssl.data.views import (
    Batch,
    FloatArray,
    Region,
    Sample,
    Size,
    Size3,
    ViewSpec,
    three,
)
from medssl.reports.pairs import Pair

Positive = Annotated[int, Field(gt=0)]


class Image(NamedTuple):
    """What one row of a view is cut from: a volume, or one of its planes."""

    volume_key: str
    plane: int | None
    """Number of the axial plane; None for the whole volume."""
    position_mm: float
    """Of the plane above the volume's lowest one; of volumes their number in the study."""


class StudyViews(ViewSpec[tuple[ViewDraw, ...]]):
    """Images of a study, each cut around its middle.

    ``Batch.views_BCIJK`` is ``[images (N, 1, I, J[, K])]``: of every sample, view by view, the
    images that there are, so N is the number of true values in ``present_BVS``.
    ``Batch.geometry`` holds

    ``present_BVS``
        whether a view has so many images (bool).
    ``position_mm_BVS``
        where each lies (float32), see :class:`Image`; 0 where there is none.

    and where there are maps, one row for each image, with a K axis of 1 for slices:

    ``organ_NIJK``
        organ numbers (float32), 0 elsewhere and for an image without a map.
    ``heat_NIJK``
        how much an expert looked at a voxel (float32).
    """

    dims: Literal[2, 3] = 3
    """3: an image is a series; 2: it is an axial slice, or a picture."""
    crop_voxels: Size = 96
    """Size of an image; one number is a cube, or a square. What a volume lacks is padded."""
    images: Positive = 1
    """Images of a study that one view shows, at most."""
    views: Positive = 1
    """Views of a study: each shows images drawn on their own, where the study has more, changed
    on their own."""
    spread: Annotated[float, Field(ge=1)] = 1.0
    """Side of the box that an image is cut from over that of the image."""
    zoom: Zoom = (1.0, 1.0)
    """Range of magnifications."""
    mirror_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Chance that a study is mirrored from left to right, and so are the words of its report."""
    appearance: AppearanceConfig = AppearanceConfig()
    """Grey values of every image."""

    @model_validator(mode="after")
    def _boxes_fit(self) -> Self:
        low, high = self.zoom
        if low > high:
            raise ValueError(f"zoom must rise from low to high, found {low} to {high}")
        if low * self.spread < 1:
            raise ValueError(
                f"at zoom {low} an image shows more than the box of spread {self.spread}: raise "
                "spread, or the lower zoom"
            )
        return self

    @property
    def flat(self) -> bool:
        """Whether images are slices."""
        return self.dims == SLICES

    @property
    def size(self) -> Size3:
        """Voxels of an image along I, J, K."""
        i, j, k = three(self.crop_voxels)
        return i, j, 1 if self.flat else k

    @property
    def region_voxels(self) -> Size3:
        i, j, k = (round(length * self.spread) for length in self.size)
        return i, j, 1 if self.flat else k

    def draw(self, rng: np.random.Generator) -> tuple[ViewDraw, ...]:
        return tuple(self._draw_image(rng) for _ in range(self.views * self.images))

    def cut(self, region: Region, draw: tuple[ViewDraw, ...]) -> Sample:
        self.check(region)
        crops = [self._cut(region.voxels_IJK, image) for image in draw]
        return _sample(crops, [[0.0] * self.images] * self.views, self.images)

    def unchanged(self) -> Self:
        still = {
            "spread": 1.0,
            "zoom": (1.0, 1.0),
            "mirror_probability": 0.0,
            "appearance": never(AppearanceConfig),
        }
        return self.model_copy(update=still)

    def read(
        self,
        store: CropStore,
        pair: Pair,
        intensity: IntensityConfig,
        rng: np.random.Generator | None = None,
        *,
        mirrored: bool = False,
        annotations: Annotations | None = None,
    ) -> Sample:
        """Return a study's views.

        Args:
            store: Where its volumes are.
            pair: Which study.
            intensity: How stored values become [0, 1].
            rng: Draws images, boxes and appearance; without, images are spread over the study
                evenly, and cut from the middle of their volume as they are.
            mirrored: Whether left becomes right.
            annotations: Maps that are cut as the images are.
        """
        spec = self if rng is not None else self.unchanged()
        there = study_images(store, pair, flat=self.flat)
        chosen = [spec._choose(there, rng) for _ in range(self.views)]
        crops = list[FloatArray]()
        beside = annotations or {}
        maps: dict[str, list[FloatArray]] = {name: [] for name in beside}
        for image in itertools.chain(*chosen):
            key, start = image.volume_key, spec._start(store.entry(image.volume_key), image, rng)
            # unchanged there is nothing to draw, whatever the generator
            draw = spec._draw_image(rng or np.random.default_rng(0))
            box_IJK = store.read(key, start, spec.region_voxels)
            region_IJK = intensity.normalize(box_IJK, store.entry(key))
            crops.append(spec._cut(region_IJK[::-1] if mirrored else region_IJK, draw))
            for name, annotated in beside.items():
                map_IJK = np.zeros(spec.region_voxels, np.float32)
                if key in annotated:
                    map_IJK = annotated.read(key, start, spec.region_voxels).astype(np.float32)
                map_IJK = map_IJK[::-1] if mirrored else map_IJK
                cut_IJK = cut_map(map_IJK, draw, spec.size, interpolated=name == HEAT)
                maps[name].append(cut_IJK)
        positions = [[image.position_mm for image in images] for images in chosen]
        sample = _sample(crops, positions, self.images)
        sample.geometry.update({name: np.stack(cut) for name, cut in maps.items()})
        return sample

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Join samples; each brings as many rows as it has images."""
        rows = torch.from_numpy(np.concatenate([sample.views_BCIJK[0] for sample in samples]))
        geometry = {
            name: torch.from_numpy(
                (np.concatenate if name in (ORGANS, HEAT) else np.stack)(
                    [sample.geometry[name] for sample in samples]
                )
            )
            for name in samples[0].geometry
        }
        return Batch([rows], geometry)

    def captions(self, batch: Batch) -> list[list[str]]:
        return [
            [
                f"sample {b}, view {v}, image {s}"
                for b, v, s in batch.geometry["present_BVS"].nonzero().tolist()
            ]
        ]

    def _draw_image(self, rng: np.random.Generator) -> ViewDraw:
        zoom = float(rng.uniform(*self.zoom))
        i, j, k = (max(round(n / zoom), 1) if n > 1 else 1 for n in self.size)
        box = (i, j, k)
        room = np.subtract(self.region_voxels, box, dtype=np.int64)
        first_i, first_j, first_k = rng.integers(0, room, endpoint=True).tolist()
        return ViewDraw(
            start_IJK=(first_i, first_j, first_k),
            size_IJK=box,
            change=CropChange(),
            appearance=draw_appearance(self.appearance, rng),
        )

    def _choose(self, images: list[Image], rng: np.random.Generator | None) -> list[Image]:
        if len(images) <= self.images:
            return images
        if rng is None:
            chosen = np.linspace(0, len(images) - 1, 2 * self.images + 1)[1::2].round()
        else:
            chosen = np.sort(rng.choice(len(images), self.images, replace=False))
        return [images[int(number)] for number in chosen]

    def _start(self, entry: StoreEntry, image: Image, rng: np.random.Generator | None) -> list[int]:
        """Return the first voxel of the box that an image is cut from."""
        size = self.region_voxels
        start = np.subtract(entry.shape, size) // 2
        if rng is not None:
            start = draw_region_starts(rng, 1, entry.shape, size)[0]
        if image.plane is not None:
            start[2] = image.plane
        first: list[int] = start.tolist()
        return first

    def _cut(self, region_IJK: FloatArray, draw: ViewDraw) -> FloatArray:
        crop_IJK = cut_view(region_IJK, draw, self.size)
        return crop_IJK[None, ..., 0] if self.flat else crop_IJK[None]


def study_images(store: CropStore, pair: Pair, *, flat: bool) -> list[Image]:
    """Return what there is to see of a study: its volumes, or all their planes, in order."""
    if not flat:
        return [Image(key, None, float(n)) for n, key in enumerate(pair.volume_keys)]
    found = list[Image]()
    for number, key in enumerate(pair.volume_keys):
        entry = store.entry(key)
        planes = entry.shape[2]
        if planes == 1:  # a picture has no height; its number is all there is
            found.append(Image(key, 0, float(number)))
        else:
            found += [Image(key, k, k * entry.spacing_mm[2]) for k in range(planes)]
    return found


def in_place(e_ND: Tensor, present_BVS: Tensor) -> Tensor:
    """Return what belongs to each image at its place, ``(B, V, S, ...)``; 0 where there is none.

    Args:
        e_ND: ``(N, ...)`` one row per image.
        present_BVS: Where they belong.
    """
    placed = e_ND.new_zeros((*present_BVS.shape, *e_ND.shape[1:]))
    placed[present_BVS] = e_ND
    return placed


def _sample(
    crops: Sequence[FloatArray], positions_mm: Sequence[Sequence[float]], slots: int
) -> Sample:
    """Return the images of all views as a sample, and where they belong."""
    present_VS = np.zeros((len(positions_mm), slots), bool)
    position_mm_VS = np.zeros((len(positions_mm), slots), np.float32)
    for view, row in enumerate(positions_mm):
        present_VS[view, : len(row)] = True
        position_mm_VS[view, : len(row)] = row
    return Sample([np.stack(crops)], {"present_BVS": present_VS, "position_mm_BVS": position_mm_VS})
