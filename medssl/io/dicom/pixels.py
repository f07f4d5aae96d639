"""Decode slices and stack them: stored values become intensities here, exactly once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medssl.io.dicom.meaning import meaning
from medssl.io.dicom.slices import PixelFormat, SliceHeader
from medssl.io.dicom.stored import StoredPixels, read_stored
from medssl.io.hounsfield import AIR_HU
from medssl.io.limits import MIB, Limits
from medssl.io.narrow import VoxelArray, narrow_integers
from medssl.io.reasons import reject
from medssl.io.volume import Intensity

_LARGEST_WHOLE_SHIFT = 2**31
_INTEGERS = tuple(np.dtype(t) for t in (np.int16, np.int32, np.int64))


@dataclass(frozen=True)
class Stack:
    """The voxels of an ordered stack, in intensities.

    Attributes:
        array_IJK: (columns, rows, slices).
        intensity: their scale.
        flags: what was noticed or mended on the way.
        suv_factor: what turned activity into uptake.
    """

    array_IJK: VoxelArray
    intensity: Intensity
    flags: tuple[str, ...]
    suv_factor: float | None = None


def stack_pixels(slices: Sequence[SliceHeader], limits: Limits, threads: int = 1) -> Stack:
    """Decode ``slices``, in their order, and apply each one's rescale values.

    Integers stay integers when every slope is 1 and every intercept whole and below 2^31; else
    float32.

    Args:
        slices: of one size.
        limits: bounds on what is allocated.
        threads: how many slices may be decoded at once; the result does not depend on it.

    Raises:
        RejectedFileError: ``too_large``, ``undecodable_pixels``, ``truncated_pixel_data``,
            ``not_finite``, ``ct_no_rescale``.
    """
    formats = [header.pixels for header in slices]
    rows, columns = formats[0].rows, formats[0].columns
    exact = all(_keeps_integers(f) for f in formats)
    dtype = np.dtype(np.int16 if exact else np.float32)
    shape = len(slices), rows, columns
    _refuse_too_large(math.prod(shape) * dtype.itemsize, limits)
    array_KJI = np.empty(shape, dtype)
    outside: dict[int, VoxelArray] = {}
    for index, stored in enumerate(read_stored(slices, limits, threads)):
        header = slices[index]
        wide = _type_for(stored, header.pixels, array_KJI.dtype)
        if wide != array_KJI.dtype:
            _refuse_too_large(math.prod(shape) * wide.itemsize, limits)
            array_KJI = array_KJI.astype(wide)
        rescale(stored, header.pixels, array_KJI[index])
        if (mask := _outside(stored, header.pixels)) is not None:
            outside[index] = np.packbits(mask)
    _refuse_overflow(array_KJI)
    # Judged before the padding becomes air, which would make any numbers look like a CT's.
    found = meaning(slices, array_KJI)
    for index, mask in outside.items():
        there = np.unpackbits(mask, count=rows * columns).reshape(rows, columns).view(bool)
        array_KJI[index][there] = AIR_HU if found.intensity == "hu" else 0
    flags = (*found.flags, *(["padding_replaced"] if outside else []))
    if exact and array_KJI.dtype != np.int16:
        array_KJI = narrow_integers(array_KJI)
    if found.factor != 1:
        array_KJI = array_KJI.astype(np.float32, copy=False) * np.float32(found.factor)
    suv_factor = found.factor if found.intensity == "suv" else None
    return Stack(array_KJI.transpose(2, 1, 0), found.intensity, flags, suv_factor)


def rescale(stored: StoredPixels, pixels: PixelFormat, out: VoxelArray) -> None:
    """Write ``slope * stored + intercept`` (DICOM PS3.3 C.11.1) to ``out``.

    What is written is of another type than what is taken: to rescale twice is a type error.
    A slope of 0 would make every voxel equal and is read as 1, as is a missing one.

    Where ``out`` holds integers the slope must be 1, and the sums must fit.
    """
    slope, intercept = _slope(pixels), pixels.intercept or 0.0
    if out.dtype.kind == "f":
        with np.errstate(over="ignore"):  # an overflow becomes infinity, which is refused
            out[:] = stored.astype(np.float64) * slope + intercept
        return
    summands: VoxelArray = stored
    if stored.dtype.itemsize == out.dtype.itemsize:
        summands = stored.view(out.dtype)  # sums are taken modulo 2^bits: they come out right
    shift = np.int64(int(intercept)).astype(out.dtype)
    np.add(summands, shift, out=out, dtype=out.dtype, casting="unsafe")


def _slope(pixels: PixelFormat) -> float:
    return pixels.slope or 1.0


def _keeps_integers(pixels: PixelFormat) -> bool:
    intercept = float(pixels.intercept or 0)
    return _slope(pixels) == 1 and intercept.is_integer() and abs(intercept) < _LARGEST_WHOLE_SHIFT


def _type_for(stored: StoredPixels, pixels: PixelFormat, dtype: np.dtype) -> np.dtype:
    """Return ``dtype``, or the next wider integer type that holds the slice's values as well."""
    if dtype.kind == "f":
        return dtype
    shift = int(pixels.intercept or 0)
    low = (-(2 ** (pixels.bits - 1)) if pixels.signed else 0) + shift
    high = low + 2**pixels.bits - 1
    if not _holds(dtype, low, high):  # as the header allows: most slices use less
        low, high = int(stored.min()) + shift, int(stored.max()) + shift
    wider = [t for t in _INTEGERS if t.itemsize >= dtype.itemsize and _holds(t, low, high)]
    return wider[0]


def _holds(dtype: np.dtype, low: int, high: int) -> bool:
    bounds = np.iinfo(dtype)
    return bool(bounds.min <= low and high <= bounds.max)


def _refuse_too_large(announced: int, limits: Limits) -> None:
    if announced > limits.volume_bytes:
        raise reject(
            "too_large", announced_mib=announced / MIB, limit_mib=limits.volume_bytes / MIB
        )


def _refuse_overflow(array: VoxelArray) -> None:
    """Reject rescale values that lead out of float32."""
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        raise reject("not_finite", percent=100 * (1 - float(finite.mean())))


def _outside(stored: StoredPixels, pixels: PixelFormat) -> VoxelArray | None:
    """Return where the scanner marked pixels as outside its field of view, None for nowhere."""
    if pixels.padding is None:
        return None
    low, high = pixels.padding
    mask = stored == low if low == high else (stored >= low) & (stored <= high)
    return mask if mask.any() else None
