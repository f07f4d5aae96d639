"""Small pictures of volumes for reports."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medssl.io.narrow import VoxelArray
from medssl.io.volume import Volume

SIZE_PX = 128
_GAP_PX = 4
WINDOW_HU = (-700.0, 500.0)
"""Wide enough to show lungs and bone in one picture."""

Grey = NDArray[np.uint8]


def three_planes(volume: Volume, p01: float, p99: float) -> bytes:
    """Return the middle axial, coronal and sagittal plane of ``volume`` side by side, as a PNG.

    All three at one scale, head and front up, the patient's right on the left, as radiologists
    are used to.

    Args:
        volume: on its closest RAS grid.
        p01: its 1st percentile, shown black unless the values are Hounsfield units.
        p99: its 99th percentile, shown white.
    """
    in_window = volume.intensity == "hu" and p99 > WINDOW_HU[0]  # else all would be black
    low, high = WINDOW_HU if in_window else (p01, p99)
    i, j, k = (n // 2 for n in volume.shape)
    i_mm, j_mm, k_mm = volume.spacing_mm
    array = volume.array_IJK
    extents_mm = [n * mm for n, mm in zip(volume.shape, volume.spacing_mm, strict=True)]
    px_per_mm = SIZE_PX / max(extents_mm)
    turned = [
        (array[::-1, ::-1, k].T, (j_mm, i_mm)),
        (array[::-1, j, ::-1].T, (k_mm, i_mm)),
        (array[i, ::-1, ::-1].T, (k_mm, j_mm)),
    ]
    panels = [
        _panel(_grey(plane, low, high), row_mm * px_per_mm, column_mm * px_per_mm)
        for plane, (row_mm, column_mm) in turned
    ]
    return _png(np.hstack(panels))


def data_uri(png: bytes) -> str:
    """Return a PNG as the address of an image within a page, "" for none."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii") if png else ""


def _grey(plane: VoxelArray, low: float, high: float) -> Grey:
    shown = np.nan_to_num(plane.astype(np.float32), nan=low, posinf=high, neginf=low)
    share = np.clip((shown - low) / max(high - low, 1e-9), 0, 1)
    grey: Grey = np.rint(255 * share).astype(np.uint8)
    return grey


def _panel(plane: Grey, px_per_row: float, px_per_column: float) -> Grey:
    """Return ``plane`` at the wanted scale, in the middle of a panel of the full height."""
    rows, columns = plane.shape
    size = max(1, round(columns * px_per_column)), max(1, round(rows * px_per_row))
    sized = np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR))[:SIZE_PX]
    missing = SIZE_PX - len(sized)
    edges = ((missing // 2, missing - missing // 2), (_GAP_PX // 2, _GAP_PX // 2))
    return np.pad(sized, edges, constant_values=int(plane.min()))


def _png(grey: Grey) -> bytes:
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    return file.getvalue()
