"""Which cells of a view are hidden: drawn first, from one generator, so that it can be replayed."""

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from medssl.config.base import Config
from medssl.data.augment import Probability

Positive = Annotated[int, Field(gt=0)]
BoolArray = NDArray[np.bool_]


class MaskConfig(Config):
    """How much of a view is hidden, and in what pieces."""

    cell_voxels: Positive = 8
    """Side of the smallest piece that is hidden or shown, in voxels of the view."""
    ratio: tuple[Probability, Probability] = (0.6, 0.6)
    """Share of the cells that is hidden, uniform from the first to the second number."""
    probability: Probability = 1.0
    """Chance that anything of a view is hidden."""
    shape: Literal["random", "blocks"] = "random"
    """`random`: each cell on its own. `blocks`: boxes of cells (BEiT, arXiv:2106.08254)."""
    smallest_block: Positive = 4
    """Cells of the smallest box."""
    aspect: Annotated[float, Field(ge=1)] = 3.0
    """A side of a box is at most this many times what it would be in a cube."""

    @model_validator(mode="after")
    def _ratio_rises(self) -> Self:
        if self.ratio[0] > self.ratio[1]:
            raise ValueError(f"ratio must rise from low to high, found {list(self.ratio)}")
        return self

    @property
    def fixed(self) -> bool:
        """Whether every view has the same number of hidden cells, and that is not zero."""
        low, high = self.ratio
        return self.probability == 1 and low == high and low > 0


def draw_visible(config: MaskConfig, cells: tuple[int, ...], rng: np.random.Generator) -> BoolArray:
    """Draw which cells of one view may be seen; the number that is hidden is met exactly.

    Args:
        config: How many, and in what pieces.
        cells: How many cells the view has along each axis.
        rng: The sample's generator.
    """
    total = int(np.prod(cells))
    happens = rng.random() < config.probability
    count = round(float(rng.uniform(*config.ratio)) * total) * int(happens)
    if config.shape == "blocks":
        order = _block_order(config, cells, count, rng)
    else:
        order = rng.permutation(total)
    visible = np.ones(total, dtype=np.bool_)
    visible[order[:count]] = False
    return visible.reshape(cells)


def _block_order(
    config: MaskConfig, cells: tuple[int, ...], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return at least ``count`` different cells: those of one random box after another."""
    index = np.arange(int(np.prod(cells))).reshape(cells)
    order: list[int] = []
    hidden: set[int] = set()
    while len(order) < count:
        most = max(count - len(order), config.smallest_block)
        box = _draw_box(config, cells, most, rng)
        fresh = [n for n in index[box].ravel().tolist() if n not in hidden]
        order += fresh
        hidden.update(fresh)
    return np.asarray(order, dtype=np.int64)


def _draw_box(
    config: MaskConfig, cells: tuple[int, ...], most: int, rng: np.random.Generator
) -> tuple[slice, ...]:
    """Draw a box of about ``smallest_block`` to ``most`` cells, anywhere in the grid."""
    size = float(rng.uniform(config.smallest_block, most))
    stretch = np.exp(rng.uniform(-1, 1, len(cells)) * np.log(config.aspect))
    axes = sum(n > 1 for n in cells)
    sides = np.clip(np.rint(size ** (1 / max(axes, 1)) * stretch), 1, cells).astype(np.int64)
    starts = rng.integers(0, np.asarray(cells) - sides, endpoint=True)
    return tuple(
        slice(start, start + side)
        for start, side in zip(starts.tolist(), sides.tolist(), strict=True)
    )
