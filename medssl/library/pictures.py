"""Small pictures of volumes for reports."""

import base64
import io

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray
from scipy import ndimage

from medssl.io.narrow import VoxelArray
from medssl.io.volume import Volume

SIZE_PX = 128
WINDOW_HU = (-700.0, 500.0)
"""Wide enough to show lungs and bone in one picture."""
PERCENT = (1.0, 99.5)

Grey = NDArray[np.float64]


def three_planes(volume: Volume) -> str:
    """Return the middle axial, coronal and sagittal plane of ``volume``, as ``side_by_side``."""
    i, j, k = (n // 2 for n in volume.shape)
    array = volume.array_IJK
    planes = (array[:, :, k], array[:, j, :], array[i, :, :])
    return side_by_side(planes, volume.spacing_mm, _window(volume))


def side_by_side(
    planes: tuple[VoxelArray, VoxelArray, VoxelArray],
    spacing_mm: tuple[float, float, float],
    window: tuple[float, float],
) -> str:
    """Return an axial, a coronal and a sagittal plane side by side, as a data URI of a PNG.

    All three at one scale, head and front up, the patient's right on the left, as radiologists
    are used to.

    Args:
        planes: (I, J), (I, K) and (J, K) voxels of a volume on its closest RAS grid.
        spacing_mm: along I, J and K.
        window: the values shown black and white.
    """
    (plane_IJ, plane_IK, plane_JK), (low, high) = planes, window
    i_mm, j_mm, k_mm = spacing_mm
    lengths = (*plane_IJ.shape, plane_IK.shape[1])
    px_per_mm = SIZE_PX / max(n * mm for n, mm in zip(lengths, spacing_mm, strict=True))
    turned = [
        (plane_IJ[::-1, ::-1].T, (j_mm, i_mm)),
        (plane_IK[::-1, ::-1].T, (k_mm, i_mm)),
        (plane_JK[::-1, ::-1].T, (k_mm, j_mm)),
    ]
    panels = [
        _panel(plane.astype(np.float64), [mm * px_per_mm for mm in step_mm])
        for plane, step_mm in turned
    ]
    return png(np.clip((np.hstack(panels) - low) / max(high - low, 1e-9), 0, 1))


def png(grey: Grey) -> str:
    """Return (rows, columns) of greys from 0 to 1 as a data URI of a PNG."""
    file = io.BytesIO()
    imsave(file, grey, cmap="gray", vmin=0, vmax=1, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _window(volume: Volume) -> tuple[float, float]:
    if volume.intensity == "hu":
        return WINDOW_HU
    values = volume.array_IJK[np.isfinite(volume.array_IJK)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, PERCENT)
    return float(low), float(high)


def _panel(plane: Grey, zoom: list[float]) -> Grey:
    """Return ``plane`` at the wanted scale, in the middle of a black panel of the full height."""
    plane = np.nan_to_num(plane, nan=float(np.nanmin(plane, initial=0.0)))
    sigma = [max(0.0, 0.5 / factor - 0.5) for factor in zoom]
    smooth = ndimage.gaussian_filter(plane, sigma)
    sized = ndimage.zoom(smooth, zoom, order=1, grid_mode=True, mode="nearest")[:SIZE_PX]
    missing = SIZE_PX - len(sized)
    edges = ((missing // 2, missing - missing // 2), (2, 2))
    return np.pad(sized, edges, constant_values=float(plane.min()))
