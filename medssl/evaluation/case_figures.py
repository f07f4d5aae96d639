"""Cases to look at: three planes each, with the outlines of reference and prediction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from medssl.inference.planes import Plane, planes_of
from medssl.io.geometry import reorient, spacing_mm
from medssl.io.volume import Volume
from medssl.runs.folder import atomic_path

Bools = NDArray[np.bool_]
REFERENCE: Final[dict[str, Any]] = {"colors": "#f0e442", "linestyles": "solid", "linewidths": 1.5}
PREDICTION: Final[dict[str, Any]] = {"colors": "#56b4e9", "linestyles": "dashed", "linewidths": 1.5}
"""Yellow and sky blue of Okabe & Ito's palette, told apart whatever the colour vision."""
_WIDTH_INCHES, _TITLE_INCHES, _LEGEND_INCHES = 9.0, 0.34, 0.3
_MARGIN_MM, _LEAST_VIEW_MM = 25.0, 100.0
_BARS_MM: Final = (100, 50, 20, 10, 5, 2, 1)
_MOST_NAMES: Final = 6
_EDGE: Final = [patheffects.withStroke(linewidth=2, foreground="black")]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One volume, turned towards RAS, and where it is cut and cropped."""

    image_RAS: NDArray[Any]
    spacing_mm: tuple[float, float, float]
    limits: tuple[float, float]
    """Which values are black and white."""
    centre: tuple[int, ...]
    """Voxel that all planes go through."""
    box: tuple[slice, ...]
    """What is shown of the volume."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Planes of one volume beside each other."""

    title: str
    seen: Seen
    reference_CRAS: Bools | None = None
    predicted_CRAS: Bools | None = None
    names: tuple[str, ...] = field(default=())
    """Of the structures, written beside them where there are several."""


def turned(volume: Volume, masks_CIJK: Bools) -> Bools:
    """Return masks with their axes along those of ``Seen.image_RAS``."""
    return np.stack([reorient(mask, volume.affine_ras, "RAS")[0] for mask in masks_CIJK])


def look_at(
    volume: Volume,
    limits: tuple[float, float],
    *,
    marked_RAS: Bools | None = None,
    framed_RAS: Bools | None = None,
) -> Seen:
    """Return where to cut a volume: where most is marked along each axis, or in its middle.

    Args:
        volume: Its image.
        limits: Which values are black and white.
        marked_RAS: What to cut through.
        framed_RAS: What has to be seen; 25 mm around it are shown, 100 mm at least.
    """
    image, affine = reorient(volume.array_IJK, volume.affine_ras, "RAS")
    spacing, shape = spacing_mm(affine), image.shape
    whole = np.zeros(shape, np.bool_)
    marked = whole if marked_RAS is None else marked_RAS
    return Seen(
        image_RAS=image,
        spacing_mm=spacing,
        limits=limits,
        centre=tuple(_fullest(marked, axis) for axis in range(3)),
        box=_frame(whole if framed_RAS is None else framed_RAS, spacing),
    )


def _fullest(mask_RAS: Bools, axis: int) -> int:
    counts = np.count_nonzero(mask_RAS, axis=tuple(other for other in range(3) if other != axis))
    return int(counts.argmax()) if counts.any() else len(counts) // 2


def _frame(mask_RAS: Bools, spacing: tuple[float, float, float]) -> tuple[slice, ...]:
    if not mask_RAS.any():
        return tuple(slice(0, size) for size in mask_RAS.shape)
    box = list[slice]()
    for axis, size in enumerate(mask_RAS.shape):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(mask_RAS.any(axis=others))
        first, last = int(places[0]), int(places[-1])
        extent_mm = (last - first + 1) * spacing[axis]
        margin_mm = max(_MARGIN_MM, (_LEAST_VIEW_MM - extent_mm) / 2)
        margin = int(np.ceil(margin_mm / spacing[axis]))
        box.append(slice(max(first - margin, 0), min(last + margin + 1, size)))
    return tuple(box)


def save_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows of planes as a PNG, all planes of a row at one scale.

    The planes are those of ``medssl.inference.planes``, with the sides marked and a bar of known
    length.
    """
    heights = [_height_inches(row) for row in rows]
    outlined = any(row.predicted_CRAS is not None for row in rows)
    legend = _LEGEND_INCHES if outlined else 0.0
    figure = Figure(figsize=(_WIDTH_INCHES, sum(heights) + legend), facecolor="black")
    parts = [*heights, legend] if outlined else heights
    subfigures = np.ravel(
        figure.subfigures(len(parts), 1, height_ratios=parts, squeeze=False, facecolor="black")
    )
    for part, row in zip(subfigures, rows, strict=False):
        _draw_row(part, row)
    if outlined:
        _legend(subfigures[-1])
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=120, format="png", facecolor="black")


def _sizes_mm(row: Row) -> list[tuple[Plane, float, float]]:
    """Return the planes of a row with their height and width."""
    extents = [
        (part.stop - part.start) * step
        for part, step in zip(row.seen.box, row.seen.spacing_mm, strict=True)
    ]
    return [(plane, *plane.size(extents)) for plane in planes_of(row.seen.image_RAS.shape)]


def _height_inches(row: Row) -> float:
    sizes = _sizes_mm(row)
    tallest, width = max(height for _, height, _ in sizes), sum(width for _, _, width in sizes)
    return min(_WIDTH_INCHES * tallest / width, _WIDTH_INCHES) + _TITLE_INCHES


def _draw_row(part: SubFigure, row: Row) -> None:
    sizes = _sizes_mm(row)
    top = 1 - _TITLE_INCHES / _height_inches(row)
    part.text(0.008, (1 + top) / 2, row.title, color="white", fontsize=10, va="center")
    grid = part.subplots(
        1,
        len(sizes),
        squeeze=False,
        width_ratios=[width for _, _, width in sizes],
        gridspec_kw={"left": 0.004, "right": 0.996, "bottom": 0.01, "top": top, "wspace": 0.015},
    )[0]
    for axes, (plane, height_mm, width_mm) in zip(grid, sizes, strict=True):
        _draw_plane(axes, row, plane, (height_mm, width_mm))


def _draw_plane(axes: Axes, row: Row, plane: Plane, size_mm: tuple[float, float]) -> None:
    seen, (height_mm, width_mm) = row.seen, size_mm
    index = seen.centre[plane.axis]
    box = tuple(slice(None) if axis == plane.axis else part for axis, part in enumerate(seen.box))
    low, high = seen.limits
    axes.imshow(
        plane.cut(seen.image_RAS[box], index).astype(np.float32),
        cmap="gray",
        vmin=low,
        vmax=high,
        extent=(0, width_mm, height_mm, 0),
        interpolation="bilinear",
    )
    for masks_CRAS, style in ((row.reference_CRAS, REFERENCE), (row.predicted_CRAS, PREDICTION)):
        for mask_RAS in masks_CRAS if masks_CRAS is not None else ():
            _outline(axes, plane.cut(mask_RAS[box], index), size_mm, style)
    if row.reference_CRAS is not None and 1 < len(row.names) <= _MOST_NAMES:
        for mask_RAS, name in zip(row.reference_CRAS, row.names, strict=True):
            _name(axes, plane.cut(mask_RAS[box], index), size_mm, name)
    _mark(axes, plane, size_mm)
    axes.set_axis_off()


def _outline(axes: Axes, mask: Bools, size_mm: tuple[float, float], style: dict[str, Any]) -> None:
    if not mask.any():
        return
    closed = np.pad(mask.astype(np.float32), 1)  # what the border cuts gets an edge there
    axes.contour(*_centres_mm(mask.shape, size_mm, beyond=1), closed, levels=[0.5], **style)
    axes.set(xlim=(0, size_mm[1]), ylim=(size_mm[0], 0))


def _centres_mm(
    shape: Sequence[int], size_mm: tuple[float, float], *, beyond: int = 0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return where columns and rows lie, and so many more on either side."""
    y_mm, x_mm = (
        (np.arange(-beyond, count + beyond) + 0.5) * size / count
        for count, size in zip(shape, size_mm, strict=True)
    )
    return x_mm, y_mm


def _name(axes: Axes, mask: Bools, size_mm: tuple[float, float], name: str) -> None:
    """Write a structure's name beside its right end."""
    if not mask.any():
        return
    x_mm, y_mm = _centres_mm(mask.shape, size_mm)
    rows, columns = np.nonzero(mask)
    last = columns.argmax()
    axes.annotate(
        name,
        (x_mm[columns[last]], y_mm[rows[last]]),
        xytext=(5, 0),
        textcoords="offset points",
        color=REFERENCE["colors"],
        fontsize=8,
        va="center",
        path_effects=_EDGE,
        annotation_clip=True,
    )


def _mark(axes: Axes, plane: Plane, size_mm: tuple[float, float]) -> None:
    """Write the plane's name and its sides, and draw a bar of known length."""
    places = [(0.015, 0.5), (0.985, 0.5), (0.5, 0.985), (0.5, 0.015)]
    aligned = [("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom")]
    look: dict[str, Any] = {"transform": axes.transAxes, "color": "white", "path_effects": _EDGE}
    for letter, place, (ha, va) in zip(plane.letters, places, aligned, strict=True):
        axes.text(*place, letter, ha=ha, va=va, fontsize=10, **look)
    axes.text(0.015, 0.985, plane.name, ha="left", va="top", fontsize=8, **look)
    height_mm, width_mm = size_mm
    bar_mm = next((bar for bar in _BARS_MM if bar <= width_mm / 3), None)
    if bar_mm is None:
        return
    left, y_mm = 0.97 * width_mm - bar_mm, 0.96 * height_mm
    axes.plot([left, left + bar_mm], [y_mm, y_mm], color="white", linewidth=2, path_effects=_EDGE)
    axes.text(
        left + bar_mm / 2, y_mm - 0.015 * height_mm, f"{bar_mm} mm",
        color="white", fontsize=8, ha="center", va="bottom", path_effects=_EDGE,
    )  # fmt: skip


def _legend(part: SubFigure) -> None:
    handles = [
        Line2D([], [], color=style["colors"], linestyle=style["linestyles"], label=name)
        for name, style in (("reference", REFERENCE), ("prediction", PREDICTION))
    ]
    part.legend(
        handles=handles, loc="center", ncols=2, fontsize=9, frameon=False, labelcolor="white"
    )
