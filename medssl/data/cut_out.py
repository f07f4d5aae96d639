"""Cut boxes out of a crop and fill them with something else: drawn first, then applied."""

from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from medssl.config.base import Config

Share = Annotated[float, Field(ge=0, le=1)]
Box = tuple[slice, slice, slice]
Boxes = tuple[Box, ...]


class CutOutConfig(Config):
    """How much is cut out; the defaults are those of Tang et al. (CVPR 2022)."""

    most: Share = 0.3
    """Boxes are drawn until the next one would make their voxels, added up, more than this share
    of the crop. They may overlap, so that less may be covered."""
    edge: tuple[Share, Share] = (0.05, 0.25)
    """Shortest and longest edge of a box, as shares of the crop's; at least one voxel."""

    @model_validator(mode="after")
    def _edges_rise(self) -> Self:
        low, high = self.edge
        if low > high:
            raise ValueError(f"edge must rise from shortest to longest, found {low} to {high}")
        return self


def draw_boxes(config: CutOutConfig, rng: np.random.Generator, shape: tuple[int, ...]) -> Boxes:
    """Draw boxes inside a crop of ``shape``, edges and places uniform."""
    size_3 = np.asarray(shape)
    shortest, longest = (np.maximum(np.rint(share * size_3), 1) for share in config.edge)
    boxes: list[Box] = []
    left = config.most * size_3.prod()
    while True:
        edges = rng.integers(shortest, longest, endpoint=True)
        starts = rng.integers(0, size_3 - edges, endpoint=True)
        left -= edges.prod()
        if left < 0:
            return tuple(boxes)
        i, j, k = (slice(s, s + e) for s, e in zip(starts.tolist(), edges.tolist(), strict=True))
        boxes.append((i, j, k))


def filled_with_noise(
    crop_IJK: NDArray[np.float32], boxes: Boxes, seed: int
) -> NDArray[np.float32]:
    """Return the crop with Gaussian noise, stretched to [0, 1], in each box; the input stays.

    A box of a single voxel becomes 0.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    filled_IJK = crop_IJK.copy()
    for box in boxes:
        noise = rng.standard_normal(filled_IJK[box].shape, dtype=np.float32)
        noise -= noise.min()
        filled_IJK[box] = noise / (float(noise.max()) or 1.0)
    return filled_IJK


def covered(boxes: Boxes, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which voxels of a crop lie in a box."""
    inside_IJK = np.zeros(shape, dtype=np.bool_)
    for box in boxes:
        inside_IJK[box] = True
    return inside_IJK
