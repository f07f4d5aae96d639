"""What spoils MR images: shading, ringing, noise of magnitudes, lost boxes. Drawn, then applied."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from pydantic import Field

from medssl.config.base import Config
from medssl.data.augment import Probability
from medssl.data.cut_out import Boxes, CutOutConfig, draw_boxes
from medssl.data.views import FloatArray

Amount = Annotated[float, Field(ge=0)]


class ArtefactConfig(Config):
    """How often and how much a view is spoiled, on the [0, 1] scale."""

    bias_probability: Probability = 0.8
    """Chance of a smooth shading."""
    bias: Amount = 0.1
    """Standard deviation of the coefficients of its logarithm."""
    bias_order: Annotated[int, Field(ge=1)] = 3
    """Highest order of its Legendre polynomials."""
    gibbs_probability: Probability = 0.3
    """Chance of ringing at edges."""
    gibbs_kept: tuple[Probability, Probability] = (0.5, 1.0)
    """Range of the radius of frequencies that are kept, as a share of the highest."""
    noise_probability: Probability = 0.8
    """Chance of Rician noise."""
    noise: Amount = 0.1
    """Standard deviation of each of its two channels is uniform from zero to this."""
    drop_probability: Probability = 0.8
    """Chance of boxes without signal."""
    drop: CutOutConfig = CutOutConfig(most=0.1, edge=(0.1, 0.3))
    """How large, and how much of the view at most."""
    drop_boxes: Annotated[int, Field(gt=0)] = 10
    """Most boxes; how many is uniform from 1 to this."""


@dataclass(frozen=True, kw_only=True)
class Artefacts:
    """What was drawn for one view."""

    bias_PPP: NDArray[np.float64] | None
    """Coefficients of the logarithm of the shading."""
    gibbs_kept: float
    noise: float
    noise_seed: int
    dropped: Boxes


def draw_artefacts(
    config: ArtefactConfig, rng: np.random.Generator, shape: tuple[int, ...]
) -> Artefacts:
    """Draw what spoils one view of this shape."""
    bias, gibbs, noise, drop = rng.random(4) < (
        config.bias_probability,
        config.gibbs_probability,
        config.noise_probability,
        config.drop_probability,
    )
    orders = config.bias_order + 1
    bias_PPP = rng.normal(0, config.bias, (orders,) * 3)
    bias_PPP[np.indices(bias_PPP.shape).sum(0) > config.bias_order] = 0
    bias_PPP[0, 0, 0] = 0  # what is brighter everywhere is no shading
    kept = float(rng.uniform(*config.gibbs_kept))
    deviation = float(rng.uniform(0, config.noise))
    noise_seed, count = int(rng.integers(2**32)), int(rng.integers(1, config.drop_boxes + 1))
    boxes = draw_boxes(config.drop, rng, shape)[:count]
    return Artefacts(
        bias_PPP=bias_PPP if bias else None,
        gibbs_kept=kept if gibbs else 1.0,
        noise=deviation if noise else 0.0,
        noise_seed=noise_seed,
        dropped=boxes if drop else (),
    )


def apply_artefacts(view_IJK: FloatArray, drawn: Artefacts) -> FloatArray:
    """Return the spoiled view: shading, ringing, noise, boxes. The input is left alone.

    Values may leave [0, 1]: clipping would erase structure.
    """
    spoiled = view_IJK
    if drawn.bias_PPP is not None:
        spoiled = spoiled * shading(spoiled.shape, drawn.bias_PPP)
    if drawn.gibbs_kept < 1:
        spoiled = ringing(spoiled, drawn.gibbs_kept)
    if drawn.noise:
        spoiled = rician(spoiled, drawn.noise, drawn.noise_seed)
    if drawn.dropped:
        spoiled = spoiled.copy()
        for box in drawn.dropped:
            spoiled[box] = 0
    return np.asarray(spoiled, np.float32)


def shading(shape: tuple[int, ...], coefficients_PPP: NDArray[np.float64]) -> FloatArray:
    """Return e to the power of a sum of products of Legendre polynomials over [-1, 1] per axis.

    Such polynomials describe the sensitivity of coils (Sled et al. 1998; Van Leemput et al. 1999).
    """
    i, j, k = (np.linspace(-1, 1, length, dtype=np.float32) for length in shape)
    logarithm = legendre.leggrid3d(i, j, k, coefficients_PPP.astype(np.float32))
    return np.asarray(np.exp(logarithm), np.float32)


def ringing(view_IJK: FloatArray, kept: float) -> FloatArray:
    """Return what is left when frequencies beyond a radius were not measured (Gibbs).

    Args:
        view_IJK: Grey values.
        kept: The radius, as a share of the highest frequency of each axis.
    """
    last = view_IJK.ndim - 1
    frequencies = [
        np.fft.rfftfreq(n) if axis == last else np.fft.fftfreq(n)
        for axis, n in enumerate(view_IJK.shape)
    ]
    radius = np.sqrt(sum((2 * f) ** 2 for f in np.meshgrid(*frequencies, indexing="ij")))
    spectrum = np.fft.rfftn(view_IJK)
    spectrum[radius > kept] = 0
    return np.fft.irfftn(spectrum, view_IJK.shape, axes=range(view_IJK.ndim)).astype(np.float32)


def rician(view_IJK: FloatArray, deviation: float, seed: int) -> FloatArray:
    """Return ``sqrt((x + n1)^2 + n2^2)`` with Gaussian n (Gudbjartsson and Patz 1995)."""
    rng = np.random.Generator(np.random.Philox(seed))
    noise_2IJK = np.float32(deviation) * rng.standard_normal((2, *view_IJK.shape), np.float32)
    return np.asarray(np.hypot(view_IJK + noise_2IJK[0], noise_2IJK[1]), np.float32)
