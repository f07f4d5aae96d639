"""Where the slices of an ordered stack lie, and the regular rectangular grid made of them.

The tags SliceThickness, SpacingBetweenSlices and GantryDetectorTilt are not believed: the sign of
the tilt is wrong on real scanners. Everything comes from position and orientation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from medssl.io.dicom.checks import refuse_mixtures
from medssl.io.dicom.slices import Plane, SliceHeader
from medssl.io.geometry import Float64Array, lps_to_ras
from medssl.io.limits import IrregularPolicy, Limits
from medssl.io.reasons import reject
from medssl.io.regularize import WHOLE_PIXEL, StackPlan
from medssl.io.volume import SliceSource

STEP_TOLERANCE, LEAST_TOLERANCE_MM = 0.01, 0.01
"""Slice distances may differ from their median by 1 % of it, or by 0.01 mm."""

TILT_TOLERANCE_DEGREES = 0.05
STRAY_TOLERANCE_PIXELS = 0.1
_GAP_TOLERANCE_STEPS = 0.05
_MOST_STEPS = 3
_MOST_INVENTED = 2
"""A grid of more than twice as many slices would be mostly made up."""

_WHOLE_STEP = 1e-4
"""A slice so near to the place of one that was scanned is that one."""

_PROTOCOL_RUN = 3
"""So many equal wide steps in a row were planned; a missing slice leaves one wide step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lattice:
    """The grid of a stack.

    Attributes:
        affine_ras: (4, 4), (column, row, slice) of the grid to RAS+ mm.
        sources: where each slice of the grid comes from.
        regularized: what has to be resampled; words of ``volume.REGULARIZED``.
        plan: how; None where nothing has to be.
    """

    affine_ras: Float64Array
    sources: tuple[SliceSource, ...]
    regularized: tuple[str, ...] = ()
    plan: StackPlan | None = None


@dataclass(frozen=True, eq=False)
class _Depths:
    """Slices at equal distances: their places counted in slices of the stack, and which are new."""

    of_grid: Float64Array
    regularized: tuple[str, ...] = ()

    @property
    def filled(self) -> list[bool]:
        return [
            "filled" in self.regularized and depth != int(depth) for depth in self.of_grid.tolist()
        ]


def lay_out(slices: Sequence[SliceHeader], limits: Limits) -> Lattice:
    """Return the grid of ``slices``, sorted along their normal.

    The first two columns of the affine come from the row and column directions and the pixel
    spacing; the third is (last position - first position) / (n - 1), which no rounding of single
    slices bends (DICOM PS3.3 C.7.6.2.1.1). Where the gantry was tilted it is that vector's part
    along the normal, and the slices are shifted back in their planes.

    Raises:
        RejectedFileError: when the slices are too few, or form no stack that
            ``limits.policy`` allows to be made regular.
    """
    planes = [header.plane for header in slices if header.plane is not None]
    if len(planes) < limits.least_slices:
        raise reject("too_few_slices", count=len(planes), least=limits.least_slices)
    refuse_mixtures(slices, planes)
    if len(planes) == 1:
        return _single(slices[0], planes[0])
    tilted = _is_tilted(planes, limits.policy)
    depths = _even_depths(planes, limits.policy)
    last = len(planes) - 1
    sources = tuple(
        replace(slices[min(round(depth), last)].source, filled=filled)
        for depth, filled in zip(depths.of_grid.tolist(), depths.filled, strict=True)
    )
    if not tilted and not depths.regularized:
        return Lattice(affine_ras=_affine_ras(planes[0], _step_LPS(planes, last)), sources=sources)
    step_LPS = _step_LPS(planes, len(depths.of_grid) - 1)
    if tilted:
        normal = planes[0].normal_LPS
        step_LPS = normal * (normal @ step_LPS)
    plan, low = _plan(slices, planes, depths, tilted=tilted)
    return Lattice(
        affine_ras=_affine_ras(planes[0], step_LPS, low),
        sources=sources,
        regularized=(*(["tilt"] if tilted else []), *depths.regularized),
        plan=plan,
    )


def _single(header: SliceHeader, plane: Plane) -> Lattice:
    """Return the grid of one slice, as deep as the header says that it is thick."""
    if header.thickness_mm is None:
        raise reject("no_slice_thickness")
    return Lattice(
        affine_ras=_affine_ras(plane, plane.normal_LPS * header.thickness_mm),
        sources=(header.source,),
    )


def _step_LPS(planes: Sequence[Plane], steps: int) -> Float64Array:  # noqa: N802
    along = np.subtract(planes[-1].origin_LPS_mm, planes[0].origin_LPS_mm)
    return np.asarray(along / steps, dtype=np.float64)


def _affine_ras(
    plane: Plane, step_LPS: Float64Array, low_IJ: Sequence[int] = (0, 0)
) -> Float64Array:
    """Return the affine of a grid whose first slice starts ``low_IJ`` pixels beside ``plane``."""
    affine_lps = np.eye(4)
    affine_lps[:3, 0] = np.multiply(plane.row_LPS, plane.spacing_mm[1])
    affine_lps[:3, 1] = np.multiply(plane.column_LPS, plane.spacing_mm[0])
    affine_lps[:3, 2] = step_LPS
    affine_lps[:3, 3] = plane.origin_LPS_mm + affine_lps[:3, :2] @ low_IJ
    return lps_to_ras(affine_lps)


def _is_tilted(planes: Sequence[Plane], policy: IrregularPolicy) -> bool:
    """Return whether the slices are shifted sideways; reject those shifted by unequal amounts."""
    normal = planes[0].normal_LPS
    origins = np.array([plane.origin_LPS_mm for plane in planes])
    along = origins[-1] - origins[0]
    depth = float(along @ normal)
    stray = origins - origins[0] - np.outer((origins - origins[0]) @ normal / depth, along)
    stray_mm = float(np.linalg.norm(stray, axis=1).max())
    if stray_mm > STRAY_TOLERANCE_PIXELS * min(planes[0].spacing_mm):
        raise reject("positions_off_line", stray_mm=stray_mm)
    aside = float(np.linalg.norm(along - depth * normal))
    tilt_degrees = float(np.degrees(np.arctan2(aside, depth)))
    if tilt_degrees <= TILT_TOLERANCE_DEGREES:
        return False
    if policy.tilt == "quarantine":
        raise reject("gantry_tilt", tilt_degrees=tilt_degrees)
    return True


def _even_depths(planes: Sequence[Plane], policy: IrregularPolicy) -> _Depths:
    """Return where equally spaced slices lie among those there are."""
    places_mm = np.array([plane.origin_LPS_mm for plane in planes]) @ planes[0].normal_LPS
    steps = np.diff(places_mm)
    step = float(np.median(steps))
    if np.abs(steps - step).max() <= _tolerance_mm(step):
        return _Depths(np.arange(len(planes), dtype=np.float64))
    if (gaps := _missing(places_mm)) is not None:
        there = np.concatenate([[0], np.cumsum(gaps + 1)])
        if gaps.max() > policy.fill_missing or not _fits(places_mm, there):
            raise reject(
                "missing_slices",
                missing=int(gaps.sum()),
                count=len(planes),
                step_mm=float(steps.min()),
            )
        return _Depths(
            np.interp(np.arange(there[-1] + 1), there, np.arange(len(there))), ("filled",)
        )
    depths = _at_equal_distances(places_mm)
    explained = _distinct(steps) <= _MOST_STEPS and len(depths) <= _MOST_INVENTED * len(planes)
    if policy.uneven == "quarantine" or not explained:
        raise reject("uneven_spacing", low_mm=float(steps.min()), high_mm=float(steps.max()))
    return _Depths(depths, ("uneven",))


def _missing(places_mm: Float64Array) -> np.ndarray | None:
    """Return how many slices are missing in each step; None where gaps do not explain the steps.

    Wide steps that repeat were planned (5 mm through the brain after 2.5 mm through the skull
    base): nothing is missing there.
    """
    steps = np.diff(places_mm)
    counts = np.round(steps / steps.min())
    if np.abs(steps / steps.min() - counts).max() > _GAP_TOLERANCE_STEPS:
        return None
    longest = max((len(list(run)) for count, run in groupby(counts) if count > 1), default=0)
    return None if longest >= _PROTOCOL_RUN else counts.astype(int) - 1


def _fits(places_mm: Float64Array, there: Float64Array) -> bool:
    """Return whether the slices lie at the whole multiples ``there`` of one step."""
    step_mm = (places_mm[-1] - places_mm[0]) / there[-1]
    apart_mm = np.abs(places_mm - places_mm[0] - there * step_mm).max()
    return bool(apart_mm <= _tolerance_mm(step_mm))


def _at_equal_distances(places_mm: Float64Array) -> Float64Array:
    """Return equally spaced places from the first slice to the last, counted in slices.

    The distance is the median one, as nearly as a whole number of steps allows: the finest may
    be that of a single junction of two blocks, and would invent many slices.
    """
    step = float(np.quantile(np.diff(places_mm), 0.5, method="lower"))
    count = max(round((places_mm[-1] - places_mm[0]) / step), 1)
    wanted_mm = np.linspace(places_mm[0], places_mm[-1], count + 1)
    depths = np.interp(wanted_mm, places_mm, np.arange(len(places_mm)))
    whole = np.round(depths)
    return np.where(np.abs(depths - whole) <= _WHOLE_STEP, whole, depths)


def _distinct(steps: Float64Array) -> int:
    """Return into how many values the steps fall, each within the tolerance of one of them."""
    count, reach_mm = 0, -np.inf
    for step in np.sort(steps).tolist():
        if step > reach_mm:
            count += 1
            reach_mm = step + 2 * _tolerance_mm(step)
    return count


def _tolerance_mm(step_mm: float) -> float:
    return max(STEP_TOLERANCE * step_mm, LEAST_TOLERANCE_MM)


def _plan(
    slices: Sequence[SliceHeader], planes: Sequence[Plane], depths: _Depths, *, tilted: bool
) -> tuple[StackPlan, tuple[int, int]]:
    """Return the plan, and where its first pixel lies, in pixels of the first slice."""
    first = planes[0]
    offsets = np.zeros((len(planes), 2))
    if tilted:
        moved = np.array([plane.origin_LPS_mm for plane in planes]) - first.origin_LPS_mm
        offsets[:, 0] = moved @ first.row_LPS / first.spacing_mm[1]
        offsets[:, 1] = moved @ first.column_LPS / first.spacing_mm[0]
    whole = np.round(offsets)
    offsets = np.where(np.abs(offsets - whole) <= WHOLE_PIXEL, whole, offsets)
    low = np.floor(offsets.min(axis=0))
    reach = np.ceil(offsets.max(axis=0)) - low
    pixels = slices[0].pixels
    shape_IJ = int(pixels.columns + reach[0]), int(pixels.rows + reach[1])
    return StackPlan(shape_IJ, offsets - low, depths.of_grid), (int(low[0]), int(low[1]))
