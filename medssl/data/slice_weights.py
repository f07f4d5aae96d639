"""Carry the weights of a volume's slices to the planes of the store's grid."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

DECIMALS: Final = 6


def weights_on_planes(
    weights_N: NDArray[np.float64],
    slices_mm: NDArray[np.float64],
    planes_mm: NDArray[np.float64],
) -> tuple[float, ...]:
    """Share the weight of each slice among the planes that cover its place.

    A slice is as thick as the distance to the next, and so is a plane. Weight is spread evenly over
    a slice and added up over a plane, so that none is lost or invented inside the planes' box.

    Args:
        weights_N: one per slice.
        slices_mm: (N,) their places along the normal, ascending at equal distances.
        planes_mm: (P,) places of the planes along the same normal, likewise.
    """
    summed = np.concatenate([[0.0], np.cumsum(weights_N)])
    at_border = np.interp(_borders(planes_mm), _borders(slices_mm), summed)
    shared: list[float] = np.maximum(np.round(np.diff(at_border), DECIMALS), 0.0).tolist()
    return tuple(shared)


def _borders(places_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N + 1,) where each of N places begins and the last one ends; one alone is 1 mm."""
    count = len(places_mm)
    step_mm = (places_mm[-1] - places_mm[0]) / (count - 1) if count > 1 else 1.0
    borders: NDArray[np.float64] = places_mm[0] + step_mm * (np.arange(count + 1) - 0.5)
    return borders
