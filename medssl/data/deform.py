"""Resample a view out of its region: turned, sheared, scaled, bent. Drawn first, then applied."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.nn import functional as F

from medssl.config.base import Config
from medssl.data.augment import Probability
from medssl.data.views import FloatArray

Amount = Annotated[float, Field(ge=0)]


class DeformConfig(Config):
    """How often and how much; the defaults follow Chalcroft et al. (SASHIMI 2025)."""

    probability: Probability = 0.8
    """Chance of all that follows together; without, the view is cut as it is."""
    rotate_deg: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Angles about the three axes are uniform in plus or minus this."""
    shear: Amount = 0.012
    """So are the six shears."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Scales along the three axes are one plus or minus up to this."""
    elastic_voxels: Amount = 1.0
    """Standard deviation of the displacements is uniform from zero to this."""
    elastic_spacing: Annotated[float, Field(gt=0)] = 12.0
    """Voxels between points that are displaced on their own; linear between them."""


@dataclass(frozen=True, kw_only=True)
class Deformation:
    """What was drawn for one view: region index = matrix @ (index - centre) + centre + bend."""

    matrix_33: NDArray[np.float64]
    centre_3: NDArray[np.float64]
    """Where the centre of the view lies in the region."""
    bend_3PPP: FloatArray
    """Displacements in voxels at points spread evenly over the view, corner to corner."""

    @property
    def is_cut(self) -> bool:
        """Whether the view is a box of the region as it stands."""
        return np.array_equal(self.matrix_33, np.eye(3)) and not self.bend_3PPP.any()


def draw_deformation(
    config: DeformConfig,
    rng: np.random.Generator,
    size: tuple[int, int, int],
    region: tuple[int, int, int],
) -> Deformation:
    """Draw where in the region a view lies and how it is deformed; equally many draws each time.

    Args:
        config: Probabilities and ranges.
        rng: The sample's generator.
        size: Voxels of the view.
        region: Voxels of the region.
    """
    start_3 = rng.integers(0, np.subtract(region, size), endpoint=True)
    happens = rng.random() < config.probability
    angles_3 = np.deg2rad(rng.uniform(-config.rotate_deg, config.rotate_deg, 3))
    shear_33 = np.eye(3) + (1 - np.eye(3)) * rng.uniform(-config.shear, config.shear, (3, 3))
    scale_3 = rng.uniform(1 - config.scale, 1 + config.scale, 3)
    points = [max(round(n / config.elastic_spacing), 1) + 1 for n in size]
    bend_3PPP = rng.standard_normal((3, *points), np.float32)
    bend_3PPP *= np.float32(rng.uniform(0, config.elastic_voxels))
    matrix_33 = rotation(angles_3) @ shear_33 @ np.diag(scale_3)
    return Deformation(
        matrix_33=matrix_33 if happens else np.eye(3),
        centre_3=start_3 + (np.asarray(size) - 1) / 2,
        bend_3PPP=bend_3PPP * np.float32(happens),
    )


def apply_deformation(
    region_IJK: FloatArray, drawn: Deformation, size: tuple[int, int, int]
) -> FloatArray:
    """Return the view, interpolated linearly; beyond the region its border goes on."""
    if drawn.is_cut:
        start_3 = np.rint(drawn.centre_3 - (np.asarray(size) - 1) / 2).astype(int)
        box = tuple(slice(s, s + n) for s, n in zip(start_3.tolist(), size, strict=True))
        return region_IJK[box].copy()
    index_IJK3 = region_indices(drawn, size)
    last_3 = torch.tensor([max(n - 1, 1) for n in region_IJK.shape])
    grid_1IJK3 = (index_IJK3 / last_3 * 2 - 1).flip(-1)[None]  # it wants K, J, I in [-1, 1]
    region_11IJK = torch.from_numpy(np.ascontiguousarray(region_IJK))[None, None]
    view = F.grid_sample(region_11IJK, grid_1IJK3, padding_mode="border", align_corners=True)
    return np.asarray(view[0, 0].numpy())


def region_indices(drawn: Deformation, size: tuple[int, int, int]) -> torch.Tensor:
    """Return ``(I, J, K, 3)`` float32: where in the region each voxel of the view is taken."""
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in size]
    offset_IJK3 = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    matrix_33 = torch.from_numpy(drawn.matrix_33).float()
    centre_3 = torch.from_numpy(drawn.centre_3).float()
    bend_13PPP = torch.from_numpy(drawn.bend_3PPP)[None]
    bend_3IJK = F.interpolate(bend_13PPP, size, mode="trilinear", align_corners=True)[0]
    return offset_IJK3 @ matrix_33.T + centre_3 + bend_3IJK.movedim(0, -1)


def rotation(angles_3: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix of turns (radians) about I, then J, then K."""
    matrix_33 = np.eye(3)
    for axis, angle in enumerate(angles_3):
        a, b = [other for other in range(3) if other != axis]
        turn_33 = np.eye(3)
        turn_33[a, a] = turn_33[b, b] = np.cos(angle)
        turn_33[a, b], turn_33[b, a] = -np.sin(angle), np.sin(angle)
        matrix_33 = turn_33 @ matrix_33
    return matrix_33
