"""What a header says of how the pixels are stored, and of what their numbers mean."""

from collections.abc import Sequence

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
)


def pixel_format(layers: Sequence[Dataset], dataset: Dataset) -> PixelFormat:
    """Return the format of a slice; ``layers`` are where to look its values up."""
    rows, allocated = integer_of(layers, "Rows"), integer_of(layers, "BitsAllocated")
    signed = integer_of(layers, "PixelRepresentation") == 1
    slope, intercept = (
        floats_of(layers, "RescaleSlope", 1),
        floats_of(layers, "RescaleIntercept", 1),
    )
    return PixelFormat(
        rows=rows,
        columns=integer_of(layers, "Columns"),
        bits=integer_of(layers, "BitsStored", allocated),
        signed=signed,
        syntax=dataset.file_meta.TransferSyntaxUID.name,
        slope=slope[0] if slope else None,
        intercept=intercept[0] if intercept else None,
        rescale_type=text_of(innermost(layers, "RescaleType"), "RescaleType").upper(),
        padding=_padding(dataset, allocated, signed=signed),
        inverted=text_of(dataset, "PhotometricInterpretation") == "MONOCHROME1",
        plain=plain_type(dataset),
        tiles_across=integer_of([dataset], "Rows") // rows if is_mosaic(dataset) else 1,
    )


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
