"""What makes the slices of one stack no volume, whatever their places."""

from collections.abc import Sequence

import numpy as np

from medssl.io.dicom.decoders import advice, name_of
from medssl.io.dicom.slices import Plane, SliceHeader
from medssl.io.limits import MIB, Limits
from medssl.io.reasons import reject

SPACING_TOLERANCE = 1e-4


def refuse_defects(slices: Sequence[SliceHeader], limits: Limits) -> None:
    """Reject a stack of which any slice is unusable: the rest is not the whole volume."""
    bad = [header for header in slices if header.defect]
    if not bad or bad[0].defect is None:
        return
    syntax = bad[0].pixels.syntax
    announced = sum(h.pixels.rows * h.pixels.columns * h.pixels.bits for h in slices) / 8
    raise reject(
        bad[0].defect,
        bad=sum(header.defect == bad[0].defect for header in bad),
        total=len(slices),
        syntax=name_of(syntax),
        advice=advice(syntax),
        announced_mib=announced / MIB,
        limit_mib=limits.volume_bytes / MIB,
    )


def refuse_mixtures(slices: Sequence[SliceHeader], planes: Sequence[Plane]) -> None:
    """Reject a stack whose slices lie in several frames, or have pixels of several sizes."""
    frames = {header.keys.frame for header in slices}
    if len(frames) > 1:
        raise reject("frame_of_reference_varies", frames=len(frames))
    spacings = np.array([plane.spacing_mm for plane in planes])
    if np.abs(spacings / spacings[0] - 1).max() > SPACING_TOLERANCE:
        raise reject("pixel_spacing_varies")
