"""Crops of one region that are known to overlap: the views of most contrastive methods."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch.nn import functional as F

from medssl.data.appearance import (
    Appearance,
    AppearanceConfig,
    apply_appearance,
    draw_appearance,
)
from medssl.data.augment import (
    AugmentConfig,
    CropChange,
    apply_change,
    draw_change,
    never,
    undo_change,
)
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

Positive = Annotated[int, Field(gt=0)]
SLICES = 2
Zoom = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


@dataclass(frozen=True, kw_only=True)
class ViewDraw:
    """What was drawn for one view: the box it is cut from, and how it is changed."""

    start_IJK: Size3
    size_IJK: Size3
    change: CropChange
    appearance: Appearance


Kinds = tuple[tuple[ViewDraw, ...], ...]
"""Per kind of view, what was drawn for each."""


class CropViews(ViewSpec[Kinds]):
    """Crops anywhere in a region not much larger than they are, each changed on its own.

    ``Batch.views_BCIJK`` is ``[crops (B*crops, 1, ...)]``, and with ``local_crops`` a second kind
    of smaller ones. ``Batch.geometry`` holds for the first kind (and with 1 in place of 0 for the
    second):

    ``region_from_view_0_BN34``
        affine from voxel indices of a view to voxel indices of its region (float32), through
        zoom, turns and flips; what two views show at the same region index is the same place.
    ``place_0_BN3``
        where the centre of a view lies in its volume, from 0 to 1 along I, J, K (float32).

    With ``dims`` 2 a region is one axial plane, and views have no K axis.
    """

    dims: Literal[2, 3] = 3
    """3 for volumes, 2 for axial slices."""
    crop_voxels: Size = 24
    """Size of a crop; one number is a cube, or a square."""
    crops: Positive = 2
    """Crops per sample."""
    spread: Annotated[float, Field(ge=1)] = 1.25
    """Side of the region over that of a crop: 1 for crops of the same box, 2 for crops that may
    only just touch."""
    zoom: Zoom = (1.0, 1.0)
    """Range of magnifications: above 1 a crop shows a smaller box, enlarged."""
    local_crops: Annotated[int, Field(ge=0)] = 0
    """Smaller crops per sample."""
    local_voxels: Size = 12
    """Their size."""
    local_zoom: Zoom = (1.0, 1.0)
    """Their range of magnifications."""
    augment: AugmentConfig = AugmentConfig(shift_probability=0)
    """Flips and quarter turns of every crop."""
    appearance: AppearanceConfig = AppearanceConfig()
    """Grey values of every crop."""

    @model_validator(mode="after")
    def _boxes_fit(self) -> Self:
        for name, (low, high) in (("zoom", self.zoom), ("local_zoom", self.local_zoom)):
            if low > high:
                raise ValueError(f"{name} must rise from low to high, found {low} to {high}")
        sizes = [(self.crop_size, self.zoom), (self.local_size, self.local_zoom)]
        for size, zoom in sizes[: 1 + (self.local_crops > 0)]:
            box = _box(size, zoom[0])
            if any(b > r for b, r in zip(box, self.region_voxels, strict=True)):
                raise ValueError(
                    f"a crop of {size} at zoom {zoom[0]} shows {box} voxels, more than the region "
                    f"of {self.region_voxels}: raise spread, or the lower zoom"
                )
        return self

    @property
    def flat(self) -> bool:
        """Whether views are slices."""
        return self.dims == SLICES

    @property
    def crop_size(self) -> Size3:
        """Size of a crop along I, J, K in voxels."""
        return self._sized(self.crop_voxels)

    @property
    def largest_box(self) -> Size3:
        """The most voxels that a crop shows, at its lowest magnification."""
        return _box(self.crop_size, self.zoom[0])

    @property
    def local_size(self) -> Size3:
        """Size of a local crop along I, J, K in voxels."""
        return self._sized(self.local_voxels)

    @property
    def region_voxels(self) -> Size3:
        i, j, k = (round(size * self.spread) for size in self.crop_size)
        return i, j, 1 if self.flat else k

    def draw(self, rng: np.random.Generator) -> Kinds:
        kinds = [(self.crops, self.crop_size, self.zoom)]
        if self.local_crops:
            kinds.append((self.local_crops, self.local_size, self.local_zoom))
        return tuple(
            tuple(self._draw_view(rng, size, zoom) for _ in range(count))
            for count, size, zoom in kinds
        )

    def cut(self, region: Region, draw: Kinds) -> Sample:
        self.check(region)
        views: list[FloatArray] = []
        geometry: dict[str, FloatArray] = {}
        for kind, drawn in enumerate(draw):
            size = (self.crop_size, self.local_size)[kind]
            affines_N34 = np.stack([region_from_view(view, size) for view in drawn])
            centres_N3 = affines_N34 @ np.append((np.asarray(size) - 1) / 2, 1)
            places_N3 = (centres_N3 + region.start_IJK + 0.5) / region.volume_shape
            crops_NIJK = np.stack([cut_view(region.voxels_IJK, view, size) for view in drawn])
            views.append(crops_NIJK[:, None, ..., 0] if self.flat else crops_NIJK[:, None])
            geometry[f"region_from_view_{kind}_BN34"] = affines_N34.astype(np.float32)
            geometry[f"place_{kind}_BN3"] = places_N3.astype(np.float32)
        return Sample(views, geometry)

    def unchanged(self) -> Self:
        still = {"augment": never(AugmentConfig), "appearance": never(AppearanceConfig)}
        return self.model_copy(update=still)

    def captions(self, batch: Batch) -> list[list[str]]:
        return [
            [
                f"{kind} {n} of sample {b}: " + " ".join(f"{x:.2f}" for x in place)
                for b, places in enumerate(batch.geometry[f"place_{index}_BN3"].tolist())
                for n, place in enumerate(places)
            ]
            for index, kind in enumerate(("crop", "local")[: len(batch.views_BCIJK)])
        ]

    def _sized(self, size: Size) -> Size3:
        i, j, k = three(size)
        return i, j, 1 if self.flat else k

    def _draw_view(self, rng: np.random.Generator, size: Size3, zoom: Zoom) -> ViewDraw:
        box = _box(size, float(rng.uniform(*zoom)))
        room = np.subtract(self.region_voxels, box, dtype=np.int64)
        i, j, k = rng.integers(0, room, endpoint=True).tolist()
        change = draw_change(self.augment, rng, square=size[0] == size[1])
        if self.flat:
            change = dataclasses.replace(change, flips=(*change.flips[:2], False))
        return ViewDraw(
            start_IJK=(i, j, k),
            size_IJK=box,
            change=change,
            appearance=draw_appearance(self.appearance, rng),
        )


def check_one_size(views: CropViews) -> None:
    """Raise ``ValueError`` where local crops are asked for; for methods that look at none."""
    if views.local_crops:
        raise ValueError(
            f"views have {views.local_crops} local_crops, and this method would not look at them: "
            "leave them out"
        )


def _box(size: Size3, zoom: float) -> Size3:
    """Return the voxels that a crop of ``size`` shows at a magnification; an axis of 1 stays."""
    i, j, k = (max(round(n / zoom), 1) if n > 1 else 1 for n in size)
    return i, j, k


def cut_view(region_IJK: FloatArray, view: ViewDraw, size: Size3) -> FloatArray:
    """Return one view as it was drawn: its box, at ``size`` voxels, changed.

    A box of another size is interpolated linearly, voxel edges on voxel edges.
    """
    crop_IJK = _cut_out(region_IJK, view, size, "trilinear")
    return apply_appearance(apply_change(crop_IJK, view.change), view.appearance)


def cut_map(
    region_IJK: FloatArray, view: ViewDraw, size: Size3, *, interpolated: bool
) -> FloatArray:
    """Return what a map of the region has where :func:`cut_view` shows the image.

    Args:
        region_IJK: Values of the map, such as class numbers.
        view: What was drawn.
        size: Voxels of the view.
        interpolated: Whether values between those of two voxels mean something.
    """
    mode = "trilinear" if interpolated else "nearest-exact"
    moved = dataclasses.replace(view.change, shift=0.0)
    return apply_change(_cut_out(region_IJK, view, size, mode), moved)


def _cut_out(region_IJK: FloatArray, view: ViewDraw, size: Size3, mode: str) -> FloatArray:
    box = tuple(slice(s, s + n) for s, n in zip(view.start_IJK, view.size_IJK, strict=True))
    crop_IJK = region_IJK[box]
    if view.size_IJK != size:
        crop_11IJK = torch.from_numpy(np.ascontiguousarray(crop_IJK))[None, None]
        crop_IJK = F.interpolate(crop_11IJK, size, mode=mode)[0, 0].numpy()
    return crop_IJK


def region_from_view(view: ViewDraw, size: Size3) -> NDArray[np.float64]:
    """Return the affine ``(3, 4)`` from voxel indices of a view to those of its region.

    It undoes, from last to first, the turns, the flips, the zoom and the cut of
    :func:`cut_view`.
    """
    scale = np.asarray(view.size_IJK) / np.asarray(size)
    cut_44 = np.diag([*scale, 1.0])
    cut_44[:3, 3] = np.asarray(view.start_IJK) + (scale - 1) / 2
    return np.asarray((cut_44 @ undo_change(view.change, size))[:3])
