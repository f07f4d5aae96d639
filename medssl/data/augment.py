"""Change how a crop looks, never where it is said to lie: drawn first, then applied."""

from dataclasses import dataclass
from typing import Annotated, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medssl.config.base import Config

Probability = Annotated[float, Field(ge=0, le=1)]
Options = TypeVar("Options", bound=Config)


class AugmentConfig(Config):
    """How often and how much a crop is changed; the defaults are VoCo's."""

    flip_probability: Probability = 0.2
    """Chance of mirroring, for each axis on its own."""
    rotate_probability: Probability = 0.2
    """Chance of one, two or three quarter turns in the I-J plane."""
    shift_probability: Probability = 0.1
    """Chance of adding one constant to all intensities."""
    shift_range: Annotated[float, Field(ge=0)] = 0.1
    """The constant is uniform in plus or minus this much of the [0, 1] range."""


def never(options: type[Options]) -> Options:
    """Return options under which nothing is drawn: every chance is 0.

    Args:
        options: A class whose chances are called ``..._probability``.
    """
    names = [name for name in options.model_fields if name.endswith("_probability")]
    return options(**dict.fromkeys(names, 0.0))


@dataclass(frozen=True, kw_only=True)
class CropChange:
    """What was drawn for one crop; by default nothing."""

    flips: tuple[bool, bool, bool] = (False, False, False)
    """Whether to mirror along I, J, K."""
    quarter_turns: int = 0
    """Turns by 90 degrees from I towards J, after the flips."""
    shift: float = 0.0
    """Added to every voxel."""


def draw_change(config: AugmentConfig, rng: np.random.Generator, *, square: bool) -> CropChange:
    """Draw one crop's changes; the generator advances equally whatever comes out.

    Args:
        config: Probabilities and ranges.
        rng: The sample's generator.
        square: Whether the crop is as long along I as along J; if not, only half turns keep its
            shape, and a turn is always two quarters.
    """
    flip_i, flip_j, flip_k = (rng.random(3) < config.flip_probability).tolist()
    rotate, shift = rng.random(2) < (config.rotate_probability, config.shift_probability)
    turns = int(rng.integers(1, 4))
    amount = float(rng.uniform(-config.shift_range, config.shift_range))
    return CropChange(
        flips=(flip_i, flip_j, flip_k),
        quarter_turns=(turns if square else 2) * int(rotate),
        shift=amount * float(shift),
    )


def undo_change(change: CropChange, size: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the affine ``(4, 4)`` from voxel indices of a changed crop to those before.

    It undoes the turns, then the flips, of :func:`apply_change`.

    Args:
        change: What was drawn.
        size: Voxels of the crop before the change.
    """
    length = np.asarray(size, np.float64)
    affine_44 = np.eye(4)
    for _ in range(change.quarter_turns % 4):
        # rot90 from I to J: out[i, j] = in[j, n - 1 - i]
        turn_44 = np.eye(4)
        turn_44[:2, :2] = ((0, 1), (-1, 0))
        turn_44[1, 3] = length[1] - 1
        length = length[[1, 0, 2]]
        affine_44 = turn_44 @ affine_44
    for axis, flipped in enumerate(change.flips):
        if flipped:
            flip_44 = np.eye(4)
            flip_44[axis, axis], flip_44[axis, 3] = -1, size[axis] - 1
            affine_44 = flip_44 @ affine_44
    return affine_44


def apply_change(
    crop_IJK: NDArray[np.float32],
    change: CropChange,
    out_IJK: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return the changed crop: flips, then turns, then the shift. The input is left alone.

    Intensities may leave [0, 1] by up to the shift: clipping would erase it where it matters most.

    Args:
        crop_IJK: The crop as it was cut.
        change: What was drawn.
        out_IJK: Where to write; None for a new array.
    """
    axes = tuple(axis for axis, flip in enumerate(change.flips) if flip)
    turned_IJK = np.rot90(np.flip(crop_IJK, axes), change.quarter_turns, axes=(0, 1))
    return np.add(turned_IJK, np.float32(change.shift), out=out_IJK)
