"""Siemens mosaics: the slices of a volume, tiled in the one image of a classic MR file.

Tiles stand row by row in a square, the last ones empty. The header places the whole mosaic as if
it were one slice with the centre of the first tile, so the first pixel of tile 0 lies at

    mosaic position + (mosaic columns - tile columns) / 2 * row direction * column spacing
                    + (mosaic rows - tile rows) / 2 * column direction * row spacing

and tile k lies k slice spacings further along the slice normal of the CSA header, which may point
against row x column (https://nipy.org/nibabel/dicom/dicom_mosaic.html).
"""

import math

import numpy as np
from pydicom import Dataset
from pydicom.valuerep import format_number_as_ds

from medssl.io.dicom.csa import numbers_of
from medssl.io.dicom.elements import RawValue
from medssl.io.dicom.values import floats_of, integer_of, words_of
from medssl.io.geometry import Float64Array
from medssl.io.narrow import VoxelArray
from medssl.io.reasons import reject

_GROUP, _CREATOR, _IMAGE_HEADER = 0x29, "SIEMENS CSA HEADER", 0x10
_BLOCKS = range(0x10, 0x14)
MOSAIC_TAGS: list[str | int] = [
    "SpacingBetweenSlices",
    *(_GROUP << 16 | block for block in _BLOCKS),
    *(_GROUP << 16 | block << 8 | _IMAGE_HEADER for block in _BLOCKS),
]
"""The CSA header and who reserved its place; read of mosaics only, and never kept."""

_COUNT, _NORMAL = "NumberOfImagesInMosaic", "SliceNormalVector"
_MOST_TILES = 1024
_PARALLEL_COSINE = 1e-3


def is_mosaic(dataset: Dataset) -> bool:
    """Return whether a classic image says that it holds many slices."""
    classic = not dataset.get("PerFrameFunctionalGroupsSequence")
    return classic and "MOSAIC" in words_of(dataset, "ImageType")


def says_mosaic(image_type: RawValue | None) -> bool:
    """Return the same of the raw value of the image type, as far as that can tell."""
    return image_type is not None and b"MOSAIC" in image_type[1]


def tiles_across(count: int) -> int:
    """Return how many tiles stand side by side in a mosaic of ``count`` slices."""
    return math.isqrt(count - 1) + 1


def tiles_of(dataset: Dataset) -> list[Dataset]:
    """Return what tells each tile from the mosaic: its place and its size.

    Raises:
        RejectedFileError: ``mosaic_unsupported``, where the header does not tell it all.
    """
    try:
        return _tiles(dataset)
    except (ValueError, TypeError, KeyError) as error:
        raise reject("mosaic_unsupported") from error


def cut(mosaic_RC: VoxelArray, across: int) -> VoxelArray:
    """Return the tiles of a mosaic, (tiles, rows, columns), the empty ones at the end too."""
    rows, columns = (size // across for size in mosaic_RC.shape)
    grid = mosaic_RC.reshape(across, rows, across, columns).swapaxes(1, 2)
    return grid.reshape(-1, rows, columns)


def _tiles(dataset: Dataset) -> list[Dataset]:
    count, normal_LPS = _count_and_normal(dataset)
    across = tiles_across(count)
    shape = [integer_of([dataset], keyword) for keyword in ("Rows", "Columns")]
    if any(size <= 0 or size % across for size in shape):
        raise ValueError("the mosaic is not made of equal tiles")
    rows, columns = (size // across for size in shape)
    cosines = _numbers(dataset, "ImageOrientationPatient", 6)
    corner_LPS_mm = _numbers(dataset, "ImagePositionPatient", 3)
    spacing_mm = _numbers(dataset, "PixelSpacing", 2)
    step_mm = _numbers(dataset, "SpacingBetweenSlices", 1)[0]
    row_LPS, column_LPS = cosines[:3], cosines[3:]
    exact_LPS = np.cross(row_LPS, column_LPS)
    along = float(exact_LPS @ normal_LPS)
    if not abs(abs(along) - 1) <= _PARALLEL_COSINE or not step_mm > 0:
        raise ValueError("the slices do not follow each other along their normal")
    first = (
        corner_LPS_mm
        + (shape[1] - columns) / 2 * spacing_mm[1] * row_LPS
        + (shape[0] - rows) / 2 * spacing_mm[0] * column_LPS
    )
    # The CSA header has eight digits of the normal: it gives the sense, the axes the direction.
    step_LPS = math.copysign(step_mm, along) * exact_LPS
    return [_tile(first + k * step_LPS, rows, columns) for k in range(count)]


def _numbers(dataset: Dataset, keyword: str, count: int) -> Float64Array:
    numbers = floats_of([dataset], keyword, count)
    if numbers is None:
        raise ValueError("the header lacks a number")
    return np.array(numbers, dtype=np.float64)


def _count_and_normal(dataset: Dataset) -> tuple[int, Float64Array]:
    content = dataset.private_block(_GROUP, _CREATOR)[_IMAGE_HEADER].value or b""
    numbers = numbers_of(content, frozenset({_COUNT, _NORMAL}))
    (count,), normal = numbers[_COUNT], np.array(numbers[_NORMAL])
    if not 1 <= count <= _MOST_TILES or not count.is_integer() or normal.shape != (3,):
        raise ValueError("no number of slices, or no normal")
    return int(count), normal


def _tile(origin_LPS_mm: Float64Array, rows: int, columns: int) -> Dataset:
    tile = Dataset()
    tile.ImagePositionPatient = [format_number_as_ds(float(value)) for value in origin_LPS_mm]
    tile.Rows, tile.Columns = rows, columns
    return tile
