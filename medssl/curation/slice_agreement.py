"""Whether two slices of close signatures show the same: their fine structure is compared.

Signatures of 256 bits know coarse shape, and neighbours 12 mm apart in a torso share it. What a
copy keeps through resizing, another gamma, smoothing or noise, and a neighbour lacks, are edges of
a few pixels: a band of spatial frequencies, of equal contrast everywhere.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

CELLS: Final = 96
FINE_CELLS, COARSE_CELLS = 0.7, 4.0
"""Sigma of the Gaussians whose difference is the band."""
NOISE_LEVELS: Final = 4.0
"""Contrast below this many of 255 grey levels is not made stronger."""
CANDIDATE_BITS: Final = 32
"""Signatures of ``slice_dct256`` that differ in more bits are not compared further."""
COPY_AGREEMENT: Final = 0.93
"""From here on two slices are copies."""

Floats = NDArray[np.float64]


def fine_structure(plane: NDArray[Any]) -> Floats:
    """Return (96 * 96,) the fine structure of a slice, centred and of length 1; 0 where none is.

    Args:
        plane: (H, W) grey levels of 0 to 255.
    """
    image = Image.fromarray(plane.astype(np.float32))
    cells = np.asarray(image.resize((CELLS, CELLS), Image.Resampling.BOX), np.float64)
    band = ndimage.gaussian_filter(cells, FINE_CELLS) - ndimage.gaussian_filter(cells, COARSE_CELLS)
    contrast = np.sqrt(ndimage.gaussian_filter(band**2, 2 * COARSE_CELLS) + NOISE_LEVELS**2)
    even = (band / contrast).ravel()
    even -= even.mean()
    length = np.sqrt((even**2).sum())
    return even / length if length > 0 else even


def agreement(a: Floats, b: Floats) -> float:
    """Return the correlation of two fine structures, -1 to 1."""
    return round(float((a * b).sum()), 6)
