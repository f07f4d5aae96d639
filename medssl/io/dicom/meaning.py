"""What the numbers of a stack are: Hounsfield units, uptake, or something only their scan knows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medssl.io.dicom.pet import uptake
from medssl.io.dicom.slices import SliceHeader
from medssl.io.hounsfield import FAT_OR_AIR_HU, LOWEST_SCANNED_HU, looks_like_hounsfield
from medssl.io.narrow import VoxelArray
from medssl.io.reasons import reject
from medssl.io.volume import Intensity

_CT_RESCALE_TYPES = ("", "HU")
_AIR_HU, _BODY_HU = (-1200.0, -870.0), -200.0
"""Where the air around a patient lies, and above what a field of view without air begins."""
_LOW_PERCENT = 0.5
_EVERY = 4


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the rescaled values are.

    Attributes:
        intensity: their scale.
        flags: what was odd about the values, or about how the headers say it.
        factor: what they are still to be multiplied by.
    """

    intensity: Intensity
    flags: tuple[str, ...] = ()
    factor: float = 1.0


def meaning(slices: Sequence[SliceHeader], array_KJI: VoxelArray) -> Meaning:
    """Return what ``array_KJI``, the rescaled values of ``slices``, are.

    Raises:
        RejectedFileError: ``ct_no_rescale``.
    """
    flags = []
    if any(header.pixels.slope == 0 for header in slices):
        flags.append("rescale_slope_zero")
    if any(header.pixels.real_world for header in slices):
        flags.append("real_world_values")
    if any(header.pixels.inverted for header in slices):
        flags.append("monochrome1")
    match slices[0].modality:
        case "CT":
            intensity, odd = _of_ct(slices, array_KJI)
            return Meaning(intensity, (*flags, *odd))
        case "PT":
            return _of_pet(slices, flags)
    return Meaning("arbitrary", tuple(flags))


def suspicious_hounsfield(array_KJI: VoxelArray) -> list[str]:
    """Return flags for values that are no CT's, though its header says so.

    A field of view that holds neither fat nor air was shifted; one whose lowest values lie between
    air and fat has its air in the wrong place. Padding, far below air, is not looked at.
    """
    sampled = array_KJI[::_EVERY, ::_EVERY, ::_EVERY]
    inside = sampled[sampled > LOWEST_SCANNED_HU]
    if inside.size == 0:
        return ["no_negative_hu"]
    low = float(np.percentile(inside, _LOW_PERCENT))
    if low > FAT_OR_AIR_HU:
        return ["no_negative_hu"]
    return ["air_not_minus_1000"] if _AIR_HU[1] < low < _BODY_HU else []


def _of_ct(slices: Sequence[SliceHeader], array_KJI: VoxelArray) -> tuple[Intensity, list[str]]:
    formats = [header.pixels for header in slices]
    stated = all(
        f.slope is not None and f.intercept is not None and f.rescale_type in _CT_RESCALE_TYPES
        for f in formats
    )
    if stated:
        untouched = all((f.slope or 1.0) == 1 and not f.intercept for f in formats)
        if untouched and not looks_like_hounsfield(array_KJI):
            return "unknown", ["hu_implausible"]
        return "hu", suspicious_hounsfield(array_KJI)
    if any(f.slope is not None for f in formats):
        return "arbitrary", ["not_hu"]
    if not looks_like_hounsfield(array_KJI):
        raise reject("ct_no_rescale")
    return "hu", ["rescale_missing"]


def _of_pet(slices: Sequence[SliceHeader], flags: Sequence[str]) -> Meaning:
    stated = [header.pet for header in slices if header.pet is not None]
    found = uptake(stated)
    if found.factor is not None:
        return Meaning("suv", tuple(flags), found.factor)
    units: Intensity = "bqml" if stated[0].units == "BQML" else "unknown"
    return Meaning(units, (*flags, f"suv_unavailable_{found.missing}"))
