"""Change the grey values of a view, never its geometry: drawn first, then applied."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import gaussian_filter

from medssl.config.base import Config
from medssl.data.augment import Probability

Amount = Annotated[float, Field(ge=0)]


class AppearanceConfig(Config):
    """How often and how much grey values change, on the [0, 1] scale."""

    brightness_probability: Probability = 0.8
    """Chance of adding one constant."""
    brightness: Amount = 0.2
    """The constant is uniform in plus or minus this."""
    contrast_probability: Probability = 0.8
    """Chance of multiplying by one constant."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """The constant is uniform in one plus or minus this."""
    gamma_probability: Probability = 0.3
    """Chance of a power of the grey values."""
    gamma: Annotated[float, Field(ge=0)] = 0.4
    """The exponent is e to the power of a number uniform in plus or minus this."""
    noise_probability: Probability = 0.3
    """Chance of Gaussian noise."""
    noise: Amount = 0.05
    """Its standard deviation is uniform from zero to this."""
    blur_probability: Probability = 0.3
    """Chance of a Gaussian blur."""
    blur_voxels: Amount = 1.0
    """Its standard deviation is uniform from zero to this."""


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """What was drawn for one view; by default nothing."""

    brightness: float = 0.0
    contrast: float = 1.0
    gamma: float = 1.0
    noise: float = 0.0
    blur_voxels: float = 0.0
    noise_seed: int = 0


def draw_appearance(config: AppearanceConfig, rng: np.random.Generator) -> Appearance:
    """Draw one view's appearance; the generator advances equally whatever comes out."""
    happens = rng.random(5) < (
        config.brightness_probability,
        config.contrast_probability,
        config.gamma_probability,
        config.noise_probability,
        config.blur_probability,
    )
    amounts = rng.uniform((-1, -1, -1, 0, 0), 1) * happens
    brightness, contrast, gamma, noise, blur = amounts.tolist()
    return Appearance(
        brightness=brightness * config.brightness,
        contrast=1 + contrast * config.contrast,
        gamma=float(np.exp(gamma * config.gamma)),
        noise=noise * config.noise,
        blur_voxels=blur * config.blur_voxels,
        noise_seed=int(rng.integers(2**32)),
    )


def apply_appearance(view: NDArray[np.float32], appearance: Appearance) -> NDArray[np.float32]:
    """Return the changed view: blur, gamma, contrast around the mean, brightness, noise.

    Values may leave [0, 1]: clipping would erase structure. The input is left alone.
    """
    changed = view
    if appearance.blur_voxels:
        changed = gaussian_filter(changed, appearance.blur_voxels, truncate=3.0)
    if appearance.gamma != 1:
        changed = np.clip(changed, 0, None) ** np.float32(appearance.gamma)
    if appearance.contrast != 1 or appearance.brightness:
        mean = changed.mean()
        changed = (changed - mean) * np.float32(appearance.contrast) + (
            mean + np.float32(appearance.brightness)
        )
    if appearance.noise:
        rng = np.random.Generator(np.random.Philox(appearance.noise_seed))
        changed = changed + np.float32(appearance.noise) * rng.standard_normal(
            changed.shape, dtype=np.float32
        )
    return np.asarray(changed, dtype=np.float32)
