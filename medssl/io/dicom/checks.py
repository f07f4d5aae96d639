"""Is an ordered stack a regular volume? Its affine, or the reason why it has none."""

from collections.abc import Sequence

import numpy as np

from medssl.io.dicom.slices import Plane, SliceHeader
from medssl.io.geometry import Float64Array, lps_to_ras
from medssl.io.limits import MIB, Limits
from medssl.io.reasons import reject

STEP_TOLERANCE, LEAST_TOLERANCE_MM = 0.01, 0.01
"""Slice distances may differ from their median by 1 % of it, or by 0.01 mm."""

TILT_TOLERANCE_DEGREES = 0.05
SPACING_TOLERANCE = 1e-4
STRAY_TOLERANCE_PIXELS = 0.1
_GAP_TOLERANCE_STEPS = 0.05


def refuse_defects(slices: Sequence[SliceHeader], limits: Limits) -> None:
    """Reject a stack of which any slice is unusable: the rest is not the whole volume."""
    bad = [header for header in slices if header.defect]
    if not bad or bad[0].defect is None:
        return
    announced = sum(h.pixels.rows * h.pixels.columns * h.pixels.bits for h in slices) / 8
    raise reject(
        bad[0].defect,
        bad=sum(header.defect == bad[0].defect for header in bad),
        total=len(slices),
        syntax=bad[0].pixels.syntax,
        announced_mib=announced / MIB,
        limit_mib=limits.volume_bytes / MIB,
    )


def stack_affine(slices: Sequence[SliceHeader], limits: Limits) -> Float64Array:
    """Return the affine of ``slices``, sorted along their normal: (i, j, k) to RAS+ mm.

    The first two columns come from the row and column directions and the pixel spacing; the
    third is (last position - first position) / (n - 1), which no rounding of single slices
    bends (DICOM PS3.3 C.7.6.2.1.1; the tags SliceThickness, SpacingBetweenSlices and
    GantryDetectorTilt are not believed).

    Raises:
        RejectedFileError: when the slices are too few, or no regular rectangular stack.
    """
    planes = [header.plane for header in slices if header.plane is not None]
    least = max(limits.least_slices, 2)  # one slice has no distance to the next
    if len(planes) < least:
        raise reject("too_few_slices", count=len(planes), least=least)
    _refuse_mixtures(slices, planes)
    _refuse_tilt(planes)
    _refuse_uneven(planes)
    first, last = planes[0], planes[-1]
    affine_lps = np.eye(4)
    affine_lps[:3, 0] = np.multiply(first.row_LPS, first.spacing_mm[1])
    affine_lps[:3, 1] = np.multiply(first.column_LPS, first.spacing_mm[0])
    affine_lps[:3, 2] = np.subtract(last.origin_LPS_mm, first.origin_LPS_mm) / (len(planes) - 1)
    affine_lps[:3, 3] = first.origin_LPS_mm
    return lps_to_ras(affine_lps)


def _refuse_mixtures(slices: Sequence[SliceHeader], planes: Sequence[Plane]) -> None:
    frames = {header.keys.frame for header in slices}
    if len(frames) > 1:
        raise reject("frame_of_reference_varies", frames=len(frames))
    spacings = np.array([plane.spacing_mm for plane in planes])
    if np.abs(spacings / spacings[0] - 1).max() > SPACING_TOLERANCE:
        raise reject("pixel_spacing_varies")


def _refuse_tilt(planes: Sequence[Plane]) -> None:
    """Reject a stack whose slices are shifted sideways, by much or by unequal amounts."""
    normal = planes[0].normal_LPS
    origins = np.array([plane.origin_LPS_mm for plane in planes])
    along = origins[-1] - origins[0]
    depth = float(along @ normal)
    aside = float(np.linalg.norm(along - depth * normal))
    tilt_degrees = float(np.degrees(np.arctan2(aside, depth)))
    if tilt_degrees > TILT_TOLERANCE_DEGREES:
        raise reject("gantry_tilt", tilt_degrees=tilt_degrees)
    stray = origins - origins[0] - np.outer((origins - origins[0]) @ normal / depth, along)
    stray_mm = float(np.linalg.norm(stray, axis=1).max())
    if stray_mm > STRAY_TOLERANCE_PIXELS * min(planes[0].spacing_mm):
        raise reject("positions_off_line", stray_mm=stray_mm)


def _refuse_uneven(planes: Sequence[Plane]) -> None:
    """Reject gaps and varying distances, and tell the two apart."""
    steps = np.diff([plane.depth_mm for plane in planes])
    step = float(np.median(steps))
    if np.abs(steps - step).max() <= max(STEP_TOLERANCE * step, LEAST_TOLERANCE_MM):
        return
    least = float(steps.min())
    multiples = steps / least
    if np.abs(multiples - np.round(multiples)).max() <= _GAP_TOLERANCE_STEPS:
        missing = int((np.round(multiples) - 1).sum())
        raise reject("missing_slices", missing=missing, count=len(planes), step_mm=least)
    raise reject("uneven_spacing", low_mm=least, high_mm=float(steps.max()))
