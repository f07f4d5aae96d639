"""Real slices, each in seven versions: which of them are copies is known. Seeded."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from medssl.errors import MedSSLError
from medssl.io.geometry import to_closest_ras
from medssl.io.nifti import read_nifti
from medssl.io.volume import Volume
from medssl.library.fingerprints.slice_dct256 import slice_dct256

Image8 = NDArray[np.uint8]
Alteration = Callable[[Image8, np.random.Generator], Image8]

APART_MM: Final = 12.0
MIN_BODY: Final = 0.1
"""Slices with less body show next to nothing, and are no test of anything."""
WINDOW_HU: Final = (-1000, 1000)
COPIES: Final = ("ts_body_ct_sm_3mm",)
"""Volumes that are parts of others: their slices would be copies that nobody planted."""


def volumes(folder: Path) -> Iterator[tuple[str, Volume]]:
    """Yield the name and voxels of every NIfTI volume below ``folder``, in the order of names."""
    for path in sorted(folder.rglob("*.nii*")):
        name = path.name.partition(".")[0]
        try:
            is_ct = path.parent.name == "ct" or "_ct_" in name
            volume = to_closest_ras(read_nifti(path, "CT" if is_ct else "MR"))
        except MedSSLError:
            continue
        if name not in COPIES:
            yield name, volume


def slices_apart(volume: Volume) -> Iterator[Image8]:
    """Yield axial slices that show something, at least ``APART_MM`` apart, as viewers show them."""
    foreground = slice_dct256(volume.array_IJK, volume.intensity, 2).foreground_S
    step = int(np.ceil(APART_MM / volume.spacing_mm[2] - 1e-6))
    if volume.intensity == "hu":
        low, high = map(float, WINDOW_HU)
    else:
        low, high = (float(value) for value in np.percentile(volume.array_IJK, (0.1, 99.9)))
    for index in range(step // 2, volume.shape[2], step):
        if foreground[index] >= MIN_BODY:
            plane = volume.array_IJK[::-1, ::-1, index].T.astype(np.float64)
            yield _to_8_bit((plane - low) * 255 / (high - low))


def resize(image: Image8, rng: np.random.Generator) -> Image8:
    """Make it 0.5 to 0.8 times as large."""
    factor = rng.uniform(0.5, 0.8)
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def gamma(image: Image8, rng: np.random.Generator) -> Image8:
    """Darken or brighten the middle: exponents 0.7 and 1.4."""
    return _to_8_bit(255 * (image / 255) ** rng.choice([0.7, 1.4]))


def smooth(image: Image8, rng: np.random.Generator) -> Image8:
    """Blur by a Gaussian of 0.8 to 1.2 pixels."""
    return _to_8_bit(ndimage.gaussian_filter(image.astype(np.float64), rng.uniform(0.8, 1.2)))


def sharpen(image: Image8, rng: np.random.Generator) -> Image8:
    """Add what a Gaussian of 1 pixel takes away, and noise of 4 grey levels."""
    values = image.astype(np.float64)
    sharp = 2 * values - ndimage.gaussian_filter(values, 1.0)
    return _to_8_bit(sharp + rng.normal(0, 4, image.shape))


def shift(image: Image8, rng: np.random.Generator) -> Image8:
    """Move it by 2 or 3 pixels along both axes; what comes in is black."""
    down, right = (int(rng.choice([-3, -2, 2, 3])) for _ in range(2))
    return np.asarray(ndimage.shift(image, (down, right), order=0))


def flip(image: Image8, rng: np.random.Generator) -> Image8:
    """Mirror it, as when left and right are mistaken."""
    return image[:, ::-1].copy()


def original(image: Image8, rng: np.random.Generator) -> Image8:
    """Leave it as it is."""
    return image


VERSIONS: Final[dict[str, Alteration]] = {
    "original": original,
    "resize": resize,
    "gamma": gamma,
    "smooth": smooth,
    "sharpen": sharpen,
    "shift": shift,
    "flip": flip,
}


def suite(folder: Path, seed: int = 0) -> Iterator[tuple[int, str, Image8]]:
    """Yield (which slice, which version, image) of all slices of the volumes below ``folder``."""
    number = 0
    for _, volume in volumes(folder):
        for image in slices_apart(volume):
            for place, (name, alter) in enumerate(VERSIONS.items()):
                yield number, name, alter(image, np.random.default_rng([seed, number, place]))
            number += 1


def _to_8_bit(values: NDArray[Any]) -> Image8:
    image: Image8 = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return image
