"""Masks drawn over their image, for people to look at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from medssl.io.geometry import Float64Array, reorient, spacing_mm
from medssl.runs.folder import atomic_path

COLOURS = ("#e8554e", "#3fa7d6", "#f2c14e", "#59cd90", "#b57edc", "#ff9b54", "#7fd8be", "#f78fb3")
"""Of structures, one after the other; the same in every picture and page."""
_OPACITY = 0.45


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One image with one mask, cut through the same place as its neighbours in the figure."""

    title: str
    image_IJK: NDArray[Any]
    mask_IJK: NDArray[Any] | None
    affine_ras: Float64Array
    slice_k: int
    """Axial slice to show, counted from the feet after turning the volume towards RAS."""

    def alone(self) -> "Panel":
        """Return a panel that looks the same and holds no more than its slice."""
        image, affine_ras = self._slice(self.image_IJK)
        mask = None if self.mask_IJK is None else self._slice(self.mask_IJK)[0]
        return replace(self, image_IJK=image, mask_IJK=mask, affine_ras=affine_ras, slice_k=0)

    def _slice(self, array_IJK: NDArray[Any]) -> tuple[NDArray[Any], Float64Array]:
        turned, affine_ras = reorient(array_IJK, self.affine_ras, "RAS")
        return turned[:, :, self.slice_k : self.slice_k + 1].copy(), affine_ras


def most_labelled_slice(mask_IJK: NDArray[Any], affine_ras: Float64Array) -> int:
    """Return the axial slice, in RAS order, with the most labelled voxels; the middle if none."""
    turned, _ = reorient(mask_IJK, affine_ras, "RAS")
    counts = np.count_nonzero(turned, axis=(0, 1))
    return int(counts.argmax()) if counts.any() else len(counts) // 2


def draw(axes: Axes, panel: Panel, classes: int) -> None:
    """Draw ``panel`` as a radiologist reads it: the patient's right on the left, front up."""
    image, affine = reorient(panel.image_IJK, panel.affine_ras, "RAS")
    i_mm, j_mm, _ = spacing_mm(affine)
    plane = image[:, :, panel.slice_k].astype(np.float32)
    low, high = np.percentile(plane, (1, 99))
    view: dict[str, Any] = {"origin": "lower", "aspect": j_mm / i_mm, "interpolation": "nearest"}
    axes.imshow(plane[::-1].T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), **view)
    if panel.mask_IJK is not None:
        mask, _ = reorient(panel.mask_IJK, panel.affine_ras, "RAS")
        shown = np.ma.masked_equal(mask[::-1, :, panel.slice_k].T, 0)
        axes.imshow(shown, cmap=_colours(classes), vmin=0, vmax=classes - 1, alpha=_OPACITY, **view)
    axes.set_title(panel.title, fontsize=9)
    axes.set_axis_off()


def save_grid(path: Path, rows: Sequence[Sequence[Panel]], labels: Sequence[str]) -> None:
    """Write ``rows`` of panels as one PNG, with the colours of ``labels`` named below."""
    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(2.6 * columns, 2.8 * len(rows) + 0.4), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes_row, row in zip(grid, rows, strict=True):
        for axes in axes_row:
            axes.set_axis_off()
        for axes, panel in zip(axes_row, row, strict=False):
            draw(axes, panel, len(labels))
    colours = _colours(len(labels))
    named = [Patch(color=colours(n), label=name) for n, name in enumerate(labels) if n > 0]
    figure.legend(
        handles=named, loc="outside lower center", ncols=min(len(named), 2 * columns), fontsize=9
    )
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110)


def _colours(classes: int) -> ListedColormap:
    return ListedColormap(["#00000000", *(COLOURS[n % len(COLOURS)] for n in range(classes - 1))])
