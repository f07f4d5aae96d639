"""Decode slices and stack them: stored values become intensities here, exactly once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array

from medssl.io.dicom import vocabulary as terms
from medssl.io.dicom.codestream import announced_size, is_complete
from medssl.io.dicom.slices import PixelFormat, SliceHeader
from medssl.io.dicom.stream import open_dicom, read_dataset
from medssl.io.hounsfield import looks_like_hounsfield
from medssl.io.limits import MIB, Limits
from medssl.io.narrow import VoxelArray, narrow_integers
from medssl.io.reasons import reject
from medssl.io.untrusted import untrusted
from medssl.io.volume import Intensity

AIR_HU = -1000
_CT_RESCALE_TYPES = ("", "HU")


@dataclass(frozen=True)
class Stack:
    """The voxels of an ordered stack, in intensities.

    Attributes:
        array_IJK: (columns, rows, slices).
        intensity: whether they are Hounsfield units.
        flags: what was noticed or mended on the way.
    """

    array_IJK: VoxelArray
    intensity: Intensity
    flags: tuple[str, ...]


def stack_pixels(slices: Sequence[SliceHeader], limits: Limits) -> Stack:
    """Decode ``slices``, in their order, and apply each one's rescale values.

    Integers stay integers when every slope is 1 and every intercept whole; else float32.

    Raises:
        RejectedFileError: ``too_large``, ``undecodable_pixels``, ``truncated_pixel_data``,
            ``ct_no_rescale``.
    """
    formats = [header.pixels for header in slices]
    rows, columns = formats[0].rows, formats[0].columns
    exact = all(_slope(f) == 1 and float(f.intercept or 0).is_integer() for f in formats)
    dtype = _working_type(formats) if exact else np.dtype(np.float32)
    _refuse_too_large(rows * columns * len(slices) * dtype.itemsize, limits)
    array_KJI = np.empty((len(slices), rows, columns), dtype)
    read = _reader(limits)
    outside: dict[int, VoxelArray] = {}
    for index, header in enumerate(slices):
        stored = read(header)
        array_KJI[index] = rescale(stored, header.pixels, dtype)
        if (mask := _outside(stored, header.pixels)) is not None:
            outside[index] = mask
    # Judged before the padding becomes air, which would make any numbers look like a CT's.
    intensity, flags = _meaning(slices, array_KJI)
    for index, mask in outside.items():
        array_KJI[index][mask] = AIR_HU if intensity == "hu" else 0
    flags += ["padding_replaced"] if outside else []
    array_KJI = narrow_integers(array_KJI) if exact else array_KJI
    return Stack(array_KJI.transpose(2, 1, 0), intensity, tuple(flags))


def rescale(stored: VoxelArray, pixels: PixelFormat, dtype: np.dtype) -> VoxelArray:
    """Return ``slope * stored + intercept`` (DICOM PS3.3 C.11.1) as ``dtype``.

    A slope of 0 would make every voxel equal and is read as 1, as is a missing one.
    """
    slope, intercept = _slope(pixels), pixels.intercept or 0.0
    if dtype.kind == "f":
        scaled: VoxelArray = stored.astype(np.float64) * slope + intercept
        return scaled.astype(dtype)
    whole: VoxelArray = stored.astype(dtype) + dtype.type(int(intercept))
    return whole


def decode(header: SliceHeader, limits: Limits) -> VoxelArray:
    """Return the stored values of one slice, (rows, columns), sign and unused bits resolved."""
    return _reader(limits)(header)


def _reader(limits: Limits) -> Callable[[SliceHeader], VoxelArray]:
    """Return a function that decodes a slice; frames of one file are decoded together."""

    @lru_cache(maxsize=1)
    def frames_of(path: Path) -> VoxelArray:
        with untrusted("undecodable_pixels"), open_dicom(path, limits) as stream:
            dataset = read_dataset(stream, terms.PIXEL_TAGS, pixels=True)
            _refuse_damaged_stream(dataset)
            frames: VoxelArray = pixel_array(dataset)
            return frames

    def read(header: SliceHeader) -> VoxelArray:
        shape = (header.pixels.rows, header.pixels.columns)
        frames = frames_of(header.path)
        if frames.shape[-2:] != shape:
            raise reject("undecodable_pixels")
        stored: VoxelArray = frames.reshape(-1, *shape)[header.frame_index or 0]
        return stored

    return read


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


def _working_type(formats: Sequence[PixelFormat]) -> np.dtype:
    """Return int16 when no stored value can leave it after its intercept, else int32."""
    limits = np.iinfo(np.int16)
    for pixels in formats:
        low = -(2 ** (pixels.bits - 1)) if pixels.signed else 0
        shift = int(pixels.intercept or 0)
        if low + shift < limits.min or low + 2**pixels.bits - 1 + shift > limits.max:
            return np.dtype(np.int32)
    return np.dtype(np.int16)


def _refuse_too_large(announced: int, limits: Limits) -> None:
    if announced > limits.volume_bytes:
        raise reject(
            "too_large", announced_mib=announced / MIB, limit_mib=limits.volume_bytes / MIB
        )


def _outside(stored: VoxelArray, pixels: PixelFormat) -> VoxelArray | None:
    """Return where the scanner marked pixels as outside its field of view, None for nowhere."""
    if pixels.padding is None:
        return None
    low, high = pixels.padding
    mask = (stored >= low) & (stored <= high)
    return mask if mask.any() else None


def _states_hounsfield(slices: Sequence[SliceHeader]) -> bool:
    return all(
        header.modality == "CT"
        and header.pixels.slope is not None
        and header.pixels.intercept is not None
        and header.pixels.rescale_type in _CT_RESCALE_TYPES
        for header in slices
    )


def _meaning(slices: Sequence[SliceHeader], array: VoxelArray) -> tuple[Intensity, list[str]]:
    """Return what the numbers are, and what was odd about how the headers say it."""
    flags = []
    if any(header.pixels.slope == 0 for header in slices):
        flags.append("rescale_slope_zero")
    if any(header.pixels.inverted for header in slices):
        flags.append("monochrome1")
    if slices[0].modality != "CT":
        return "arbitrary", flags
    if _states_hounsfield(slices):
        untouched = all(_slope(h.pixels) == 1 and not h.pixels.intercept for h in slices)
        if untouched and not looks_like_hounsfield(array):
            return "arbitrary", [*flags, "hu_implausible"]
        return "hu", flags
    if any(header.pixels.slope is not None for header in slices):
        return "arbitrary", [*flags, "not_hu"]
    if not looks_like_hounsfield(array):
        raise reject("ct_no_rescale")
    return "hu", [*flags, "rescale_missing"]
