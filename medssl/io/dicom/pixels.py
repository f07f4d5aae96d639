"""Decode slices and stack them: stored values become intensities here, exactly once."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import NewType

import numpy as np
from pydicom import Dataset
from pydicom.encaps import generate_frames

from medssl.io.dicom import vocabulary as terms
from medssl.io.dicom.codestream import announced_size, is_complete
from medssl.io.dicom.decoders import decode
from medssl.io.dicom.meaning import meaning
from medssl.io.dicom.mosaic import cut
from medssl.io.dicom.plain import read_plain
from medssl.io.dicom.slices import PixelFormat, SliceHeader
from medssl.io.dicom.stream import open_dicom, read_dataset
from medssl.io.hounsfield import AIR_HU
from medssl.io.limits import MIB, Limits
from medssl.io.narrow import VoxelArray, narrow_integers
from medssl.io.reasons import reject
from medssl.io.untrusted import untrusted
from medssl.io.volume import Intensity

_LARGEST_WHOLE_SHIFT = 2**31
_INTEGERS = tuple(np.dtype(t) for t in (np.int16, np.int32, np.int64))


StoredPixels = NewType("StoredPixels", VoxelArray)
"""Pixels as they stand in the file, before the rescale values make intensities of them."""


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


def stack_pixels(slices: Sequence[SliceHeader], limits: Limits) -> Stack:
    """Decode ``slices``, in their order, and apply each one's rescale values.

    Integers stay integers when every slope is 1 and every intercept whole and below 2^31; else
    float32.

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
    read = _reader(limits)
    outside: dict[int, VoxelArray] = {}
    for index, header in enumerate(slices):
        stored = read(header)
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


def digester(limits: Limits) -> Callable[[SliceHeader], str]:
    """Return a function that gives the digest of a slice's stored values.

    A file is decoded once, however many of its frames are asked for and in whatever order.
    """

    @cache
    def digests_of(path: Path, across: int) -> list[str]:
        frames = _frames(path, across, limits)
        return [hashlib.sha256(frame.tobytes()).hexdigest() for frame in frames]

    return lambda header: digests_of(header.path, header.pixels.tiles_across)[
        header.frame_index or 0
    ]


def _reader(limits: Limits) -> Callable[[SliceHeader], StoredPixels]:
    """Return a function that reads the stored values of a slice, (rows, columns).

    What it returned before is overwritten. Frames of one file are decoded together.
    """

    @lru_cache(maxsize=1)
    def frames_of(path: Path, across: int) -> VoxelArray:
        return _frames(path, across, limits)

    @lru_cache(maxsize=1)
    def room(dtype: str, rows: int, columns: int) -> VoxelArray:
        return np.empty((rows, columns), dtype)

    def read(header: SliceHeader) -> StoredPixels:
        pixels = header.pixels
        if pixels.plain and header.pixels_start is not None:
            stored = room(pixels.plain, pixels.rows, pixels.columns)
            if read_plain(header, stored):
                return StoredPixels(stored)
        frames = frames_of(header.path, pixels.tiles_across)
        if frames.shape[1:] != (pixels.rows, pixels.columns):
            raise reject("undecodable_pixels")
        return StoredPixels(frames[header.frame_index or 0])

    return read


def _frames(path: Path, across: int, limits: Limits) -> VoxelArray:
    """Return the stored values of a file, (frames, rows, columns), sign and unused bits resolved.

    The tiles of a mosaic, ``across`` side by side, are its frames.
    In native byte order: a copy of a slice has the same bytes, however it was encoded.
    """
    with untrusted("undecodable_pixels"), open_dicom(path, limits) as stream:
        dataset = read_dataset(stream, terms.PIXEL_TAGS, pixels=True)
        _refuse_damaged_stream(dataset)
        array = decode(dataset)
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        frames = native.reshape(-1, *array.shape[-2:])
        return frames if across == 1 else cut(frames[0], across)


def _refuse_damaged_stream(dataset: Dataset) -> None:
    """Reject compressed pixels that are cut short, or that would decode to another size."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    if not is_complete(dataset.PixelData):
        raise reject("truncated_pixel_data", bad=1, total=1)
    frames = int(dataset.get("NumberOfFrames") or 1)
    for frame in generate_frames(dataset.PixelData, number_of_frames=frames):
        if announced_size(frame) not in (None, (dataset.Rows, dataset.Columns)):
            raise reject("undecodable_pixels")


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
