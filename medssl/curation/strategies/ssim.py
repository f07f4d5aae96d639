"""Keep a slice when its structure differs enough from that of the kept ones nearby."""

from typing import Annotated, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medssl.curation.slices import VolumeSlices
from medssl.curation.strategies.base import Floats, Leader, Places

CELLS: Final = 128
WINDOW: Final = 7
MOST: Final = 255
K1, K2 = 0.01, 0.03

Ints = NDArray[np.int64]


class Described(NamedTuple):
    """Slices of 8 bits, and what is known of every window of each; all whole numbers."""

    pixels_NHW: Ints
    sums_NRC: Ints
    squares_NRC: Ints


class Ssim(Leader):
    """Mean structural similarity (Wang et al. 2004, IEEE TIP 13:600), 1 for equal slices.

    Of slices shrunk to 128 x 128, which is a dozen times quicker than 512 x 512 and blind to noise,
    with flat windows of 7 x 7 and unbiased variances, as scikit-image has by default.
    """

    class Config(Leader.Config):
        min_ssim: Annotated[float, Field(gt=0, lt=1)] = 0.6
        """Slices of at least this similarity are alike."""

    config: Config

    @property
    def threshold(self) -> float:
        """Return the least similarity of two slices that are alike."""
        return self.config.min_ssim

    def describe(self, slices: VolumeSlices) -> Described:
        """Shrink the slices, and sum their windows."""
        pixels_NHW = slices.pooled(CELLS) >> 8
        return Described(pixels_NHW, window_sums(pixels_NHW), window_sums(pixels_NHW**2))

    def scores(self, described: Described, one: int, others: Places) -> Floats:
        """Return the mean similarity over all whole windows."""
        return np.array([ssim(described, one, int(other)) for other in others])


def ssim(described: Described, a: int, b: int) -> float:
    """Return the mean structural similarity of two slices, (2 mu mu + c)(2 cov + c) / ..."""
    pixels_NHW, sums_NRC, squares_NRC = described
    count = _window(pixels_NHW.shape[1]) * _window(pixels_NHW.shape[2])
    products_RC = window_sums(pixels_NHW[a] * pixels_NHW[b])
    mean_a, mean_b = sums_NRC[a] / count, sums_NRC[b] / count
    unbiased = max(count - 1, 1)
    variances = (squares_NRC[a] + squares_NRC[b]) - count * (mean_a**2 + mean_b**2)
    covariance = products_RC - count * mean_a * mean_b
    c1, c2 = (K1 * MOST) ** 2, (K2 * MOST) ** 2
    above = (2 * mean_a * mean_b + c1) * (2 * covariance / unbiased + c2)
    below = (mean_a**2 + mean_b**2 + c1) * (variances / unbiased + c2)
    return float((above / below).mean())


def window_sums(pixels: Ints) -> Ints:
    """Return the sums of all windows that lie within the last two axes."""
    for axis in (-1, -2):
        width = _window(pixels.shape[axis])
        running = np.cumsum(np.moveaxis(pixels, axis, 0), axis=0)
        padded = np.concatenate([np.zeros_like(running[:1]), running])
        pixels = np.moveaxis(padded[width:] - padded[:-width], 0, axis)
    return pixels


def _window(length: int) -> int:
    """Return the side of a window; a slice thinner than 7 pixels has a narrower one."""
    return min(WINDOW, length)
