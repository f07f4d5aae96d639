"""The 64-bit difference hash of images, bit for bit as imagehash computes it with Pillow.

Only to compare with published results: a bit says whether a pixel of a 9 x 8 thumbnail is brighter
than its left neighbour (Krawetz 2013), so it sees horizontal gradients alone, and all of air looks
alike. The thumbnail is Pillow's: a Lanczos filter of three lobes in fixed point, first along rows,
then along columns, rounded to 8 bits after each.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SPEC: Final = "dhash64/1"
"""Goes wherever these hashes are stored."""

WIDTH: Final = 9
HEIGHT: Final = 8
LOBES: Final = 3.0
SHIFT: Final = 22
"""Pillow keeps its filter as multiples of 2^-22."""

Bytes = NDArray[np.uint8]
Resize = Callable[[Bytes, int], Bytes]
"""From (N, rows, length) images to (N, size, rows): shorter rows, turned on their side."""


def dhash64(images_NHW: Bytes) -> NDArray[np.uint64]:
    """Return (N,) hashes of (N, H, W) 8-bit images; the first comparison is the highest bit."""
    small = thumbnails(images_NHW)
    brighter = small[:, :, 1:] > small[:, :, :-1]
    packed = np.packbits(brighter.reshape(len(small), -1), axis=1)
    return np.ascontiguousarray(packed).view(">u8")[:, 0].astype(np.uint64)


def thumbnails(images_NHW: Bytes, resize: Resize | None = None) -> Bytes:
    """Return (N, 8, 9) what Pillow's ``resize((9, 8), LANCZOS)`` returns.

    Where columns shrink by more than twice as many pixels as rows do, Pillow 13 begins with them.
    """
    resize = resize or _quickest()
    _, height, width = images_NHW.shape
    if height > HEIGHT and height - HEIGHT > 2 * (width - WIDTH):
        return resize(resize(images_NHW.swapaxes(1, 2), HEIGHT), WIDTH).swapaxes(1, 2)
    return resize(resize(images_NHW, WIDTH), HEIGHT)


def min_max_8_bit(planes_NHW: NDArray[Any]) -> Bytes:
    """Stretch each plane from its own minimum and maximum to 0 to 255, rounding down.

    Integers of up to 16 bits are scaled in whole numbers. A constant plane becomes 0.
    """
    return np.stack([_stretched(plane) for plane in planes_NHW])


def resize_rows(images_NRC: Bytes, size: int) -> Bytes:
    """Resize rows by matrix products: sums are whole numbers below 2^53, exact in any order."""
    length = images_NRC.shape[2]
    if length == size:
        return images_NRC.swapaxes(1, 2)
    found = np.empty((len(images_NRC), size, images_NRC.shape[1]), np.uint8)
    for image_RC, out in zip(images_NRC, found, strict=True):
        sums = filter_weights(length, size) @ image_RC.T.astype(np.float64)
        out[:] = np.clip(np.floor((sums + 2 ** (SHIFT - 1)) / 2**SHIFT), 0, 255)
    return found


@cache
def filter_weights(length: int, size: int) -> NDArray[np.float64]:
    """Return (size, length) the weights of the filter, in 2^-22, rounded away from zero at .5."""
    scale = length / size
    stretch = max(scale, 1.0)
    support = LOBES * stretch
    weights = np.zeros((size, length))
    for out in range(size):
        centre = (out + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), length)
        inverse = 1.0 / stretch
        taps = [_lanczos((x - centre + 0.5) * inverse) for x in range(first, last)]
        total = 0.0
        for tap in taps:
            total += tap
        for x, tap in enumerate(taps, first):
            share = tap * (1.0 / total) if total else tap
            weights[out, x] = math.trunc(math.copysign(0.5, share) + share * 2**SHIFT)
    return weights


def _quickest() -> Resize:
    try:
        from medssl.library.fingerprints.dhash64_compiled import resize_rows as compiled
    except ImportError:  # numba has no wheel for every machine
        return resize_rows
    return compiled


def _stretched(plane: NDArray[Any]) -> Bytes:
    exact = plane.dtype.kind in "iu" and plane.dtype.itemsize <= 2  # noqa: PLR2004
    values = plane.astype(np.int32) if exact else np.nan_to_num(plane.astype(np.float64))
    low = values.min()
    span = values.max() - low
    if span == 0:
        return np.zeros(plane.shape, np.uint8)
    stretched: Bytes = ((values - low) * 255 // span).astype(np.uint8)
    return stretched


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / LOBES) if -LOBES <= x < LOBES else 0.0


def _sinc(x: float) -> float:
    if x == 0.0:
        return 1.0
    x *= math.pi
    return math.sin(x) / x
