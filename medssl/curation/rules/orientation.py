"""Slices that lie as wanted, on a grid with right angles."""

import math
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medssl.curation.rules.base import CatalogRow, Rule, slice_axis_of
from medssl.io.geometry import shear_degrees

Plane = Literal["sagittal", "coronal", "axial"]
_PLANES: Final[tuple[Plane, ...]] = ("sagittal", "coronal", "axial")
"""What slices along each axis of an RAS grid are."""


class Orientation(Rule):
    """Excludes other planes, oblique slices, tilted gantries, and axes not at right angles."""

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        planes: Annotated[tuple[Plane, ...], Field(min_length=1)] = _PLANES
        """Planes that may stay; oblique slices count as the nearest."""
        at_most_oblique_deg: Annotated[float, Field(ge=0, le=90)] = 90.0
        """Most that the slices may lean from their plane."""
        at_most_shear_deg: Annotated[float, Field(ge=0)] = 1.0
        """Most that the axes may miss right angles by."""
        allow_tilt: bool = True
        """Let pass what was scanned with a tilted gantry, and resampled by ingestion."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Judge by the affine, which lies on the closest RAS grid, never by a tag."""
        config = self.config
        affine_ras = np.asarray(row["affine_ras"], dtype=np.float64).reshape(4, 4)
        if not np.isfinite(affine_ras).all() or np.linalg.det(affine_ras[:3, :3]) == 0:
            return "its affine is not finite or flat, wanted three axes in space"
        shear_deg = shear_degrees(affine_ras)
        if shear_deg > config.at_most_shear_deg:
            most = f"at most {config.at_most_shear_deg:g}"
            return f"axes {shear_deg:.1f} degrees from right angles, wanted {most}"
        if "tilt" in (row["regularized"] or ()) and not config.allow_tilt:
            return "the gantry was tilted, wanted it upright"
        axis = slice_axis_of(row)
        if _PLANES[axis] not in config.planes:
            return f"{_PLANES[axis]} slices, wanted {' or '.join(config.planes)}"
        oblique_deg = _lean_deg(affine_ras, axis)
        if oblique_deg > config.at_most_oblique_deg:
            most = f"at most {config.at_most_oblique_deg:g}"
            return f"slices lean {oblique_deg:.1f} degrees from {_PLANES[axis]}, wanted {most}"
        return None


def _lean_deg(affine_ras: NDArray[np.float64], axis: int) -> float:
    """Return the angle between the normal of the slices and the axis of the body nearest to it."""
    rows, columns = (affine_ras[:3, other] for other in range(3) if other != axis)
    normal = np.cross(rows, columns)
    return math.degrees(math.acos(min(1.0, abs(normal[axis]) / float(np.linalg.norm(normal)))))
