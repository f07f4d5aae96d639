"""What a header says of how the pixels are stored, and of what their numbers mean."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from medssl.io.dicom.mosaic import is_mosaic
from medssl.io.dicom.plain import plain_type
from medssl.io.dicom.slices import PixelFormat
from medssl.io.dicom.values import (
    floats_of,
    innermost,
    integer_of,
    optional_integer_of,
    text_of,
    value_of,
)

_HOUNSFIELD_CODES = frozenset({"[hnsf'U]", "HU"})
"""The unit in UCUM, as it is and as it is misspelt."""


@dataclass(frozen=True, slots=True)
class _Scale:
    """What makes intensities of stored values."""

    slope: float | None
    intercept: float | None
    kind: str
    real_world: bool = False


def pixel_format(layers: Sequence[Dataset], dataset: Dataset) -> PixelFormat:
    """Return the format of a slice; ``layers`` are where to look its values up."""
    rows, allocated = integer_of(layers, "Rows"), integer_of(layers, "BitsAllocated")
    signed = integer_of(layers, "PixelRepresentation") == 1
    scale = _rescale(layers) or _real_world(layers) or _Scale(None, None, _rescale_type(layers))
    return PixelFormat(
        rows=rows,
        columns=integer_of(layers, "Columns"),
        bits=integer_of(layers, "BitsStored", allocated),
        bits_allocated=allocated,
        signed=signed,
        syntax=dataset.file_meta.TransferSyntaxUID,
        slope=scale.slope,
        intercept=scale.intercept,
        rescale_type=scale.kind,
        real_world=scale.real_world,
        padding=_padding(dataset, allocated, signed=signed),
        inverted=text_of(dataset, "PhotometricInterpretation") == "MONOCHROME1",
        plain=plain_type(dataset),
        tiles_across=integer_of([dataset], "Rows") // rows if is_mosaic(dataset) else 1,
    )


def _rescale(layers: Sequence[Dataset]) -> _Scale | None:
    """Return the modality's own scale, where there is a part of one."""
    slope, intercept = (
        floats_of(layers, keyword, 1) for keyword in ("RescaleSlope", "RescaleIntercept")
    )
    if not slope and not intercept:
        return None
    return _Scale(
        slope[0] if slope else None, intercept[0] if intercept else None, _rescale_type(layers)
    )


def _real_world(layers: Sequence[Dataset]) -> _Scale | None:
    """Return the first linear real world value mapping of a frame.

    Scales in private elements are never used: readers disagree by orders of magnitude about what
    they mean.
    """
    slope, intercept = (
        floats_of(layers, keyword, 1)
        for keyword in ("RealWorldValueSlope", "RealWorldValueIntercept")
    )
    if not slope or not intercept:
        return None
    units = value_of(layers, "MeasurementUnitsCodeSequence") or [Dataset()]
    hounsfield = text_of(units[0], "CodeValue") in _HOUNSFIELD_CODES
    return _Scale(slope[0], intercept[0], "HU" if hounsfield else "RWV", real_world=True)


def _rescale_type(layers: Sequence[Dataset]) -> str:
    return text_of(innermost(layers, "RescaleType"), "RescaleType").upper()


def _padding(dataset: Dataset, bits: int, *, signed: bool) -> tuple[int, int] | None:
    value = optional_integer_of([dataset], "PixelPaddingValue")
    if value is None:
        return None
    other = integer_of([dataset], "PixelPaddingRangeLimit", value)
    low, high = sorted(_as_stored(number, bits, signed=signed) for number in (value, other))
    return low, high


def _as_stored(number: int, bits: int, *, signed: bool) -> int:
    """Read a padding value written in the wrong one of US and SS: 63536 is -2000 when signed."""
    wrapped = number % (1 << bits)
    return wrapped - (1 << bits) if signed and wrapped >= 1 << (bits - 1) else wrapped
