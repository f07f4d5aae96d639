"""The three planes of a volume as a radiologist reads them.

The patient's right is on the left of axial and coronal planes, the front on the left of sagittal
ones; the front or the head is up. Volumes are on their closest RAS grid, nothing is resampled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Spec = Mapping[str, Any]
PERCENTILES: Final = (0.5, 99.5)


@dataclass(frozen=True)
class Plane:
    """A direction to cut in."""

    name: str
    axis: int
    """The RAS axis that it stands on."""
    letters: tuple[str, str, str, str]
    """What lies to the left, to the right, above and below."""

    def cut(self, array_RAS: NDArray[Any], index: int) -> NDArray[Any]:
        """Return the plane at ``index``: rows from above, columns from the left."""
        plane: NDArray[Any] = np.take(array_RAS, index, axis=self.axis)[::-1, ::-1].T
        return plane

    def size(self, along_RAS: Sequence[float]) -> tuple[float, float]:
        """Return the entries of a (3,) of the axes that are its height and its width."""
        width, height = (value for axis, value in enumerate(along_RAS) if axis != self.axis)
        return height, width


PLANES: Final = (
    Plane("axial", 2, ("R", "L", "A", "P")),
    Plane("coronal", 1, ("R", "L", "S", "I")),
    Plane("sagittal", 0, ("A", "P", "S", "I")),
)


def planes_of(shape_RAS: Sequence[int]) -> list[Plane]:
    """Return the planes in which a volume has an extent: of a single slice only its own."""
    return [plane for plane in PLANES if min(plane.size(shape_RAS)) > 1] or [PLANES[0]]


def shown_range(specs: Sequence[Spec], array_IJK: NDArray[Any]) -> tuple[float, float]:
    """Return which values are black and white: the window of the preprocessing, or percentiles.

    Args:
        specs: Transforms that the network's input went through.
        array_IJK: The volume.
    """
    for spec in specs:
        if spec["_target_"] == "ScaleIntensityRanged":
            return float(spec["a_min"]), float(spec["a_max"])
    low, high = np.percentile(array_IJK, PERCENTILES)
    return float(low), float(max(high, low + 1e-6))


def range_text(specs: Sequence[Spec], modality: str) -> str:
    """Return ``shown_range`` in words."""
    for spec in specs:
        if spec["_target_"] == "ScaleIntensityRanged":
            unit = " HU" if modality == "CT" else ""
            return f"Black to white: {spec['a_min']:g} to {spec['a_max']:g}{unit}."
    return "Black to white: the {}th to the {}th percentile of the scan.".format(*PERCENTILES)
