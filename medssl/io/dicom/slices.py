"""What is known of one slice before its pixels are read; nothing in it names a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.uid import UID

from medssl.io.deidentify import ScanKeys
from medssl.io.dicom.acquisition import Acquisition
from medssl.io.dicom.pet import Pet
from medssl.io.geometry import Float64Array
from medssl.io.volume import SliceSource

Vector = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plane:
    """Where a slice lies, in DICOM's frame (LPS, millimetres)."""

    row_LPS: Vector
    """Unit vector along a row: the direction in which the column index grows."""
    column_LPS: Vector
    """Unit vector along a column: the direction in which the row index grows."""
    origin_LPS_mm: Vector
    """Centre of the first pixel."""
    spacing_mm: tuple[float, float]
    """Distance from row to row, and from column to column."""

    @property
    def normal_LPS(self) -> Float64Array:  # noqa: N802  the frame is part of the name
        """Unit vector from slice to slice, right-handed with row and column."""
        normal = np.cross(self.row_LPS, self.column_LPS)
        return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)

    @property
    def depth_mm(self) -> float:
        """Position along the normal."""
        return float(np.dot(self.normal_LPS, self.origin_LPS_mm))


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelFormat:
    """How the pixels are stored, and what their numbers mean."""

    rows: int
    columns: int
    bits: int
    """Bits stored per pixel."""
    bits_allocated: int
    """Bits a pixel takes up where it is not compressed."""
    signed: bool
    syntax: UID
    """Transfer syntax."""
    slope: float | None
    intercept: float | None
    rescale_type: str
    padding: tuple[int, int] | None
    """Lowest and highest stored value that mark a pixel outside the field of view."""
    inverted: bool
    """MONOCHROME1: low values are meant to be shown bright."""
    plain: str = ""
    """NumPy's name of the type in which the pixels lie in the file, where they lie there as they
    are; "" where only a decoder can tell."""
    real_world: bool = False
    """Slope and intercept are those of a real world value mapping: the header has no others."""
    tiles_across: int = 1
    """How many slices stand side by side in the file's one image: more than 1 in a mosaic."""

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of an image of the file: a slice, or a mosaic of slices."""
        return self.rows * self.tiles_across, self.columns * self.tiles_across


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceHeader:
    """One slice: a classic DICOM file, one frame of a multi-frame file, or one tile of a mosaic."""

    path: Path
    file_key: str
    """Pseudonym of the file."""
    frame_index: int | None
    """Which frame, or tile, of the file; None for a file of one slice."""
    keys: ScanKeys
    modality: str
    image_type: tuple[str, ...]
    body_part: str
    """A word of the vocabulary, or ""."""
    plane: Plane | None
    thickness_mm: float | None
    """As stated; believed of a single slice only."""
    pixels: PixelFormat
    instance_number: int | None
    phase: tuple[tuple[str, float | str], ...]
    """What tells images of one place apart: echo, b-value, time point and the like."""
    acquisition: Acquisition
    pet: Pet | None
    """Of a PET slice: what its uptake follows from."""
    defect: str | None
    """The reason code of what makes this slice, and so its stack, unusable."""
    pixels_start: int | None = None
    """Where the pixels begin in the file, where that is known."""

    @property
    def source(self) -> SliceSource:
        """What a volume records of the slice."""
        return SliceSource(
            file_key=self.file_key, frame_index=self.frame_index, instance_key=self.keys.instance
        )


def by_identity(header: SliceHeader) -> tuple[str, int, str]:
    """Sort key that depends neither on file order nor, but for exact copies, on files' names."""
    return header.keys.instance, header.frame_index or 0, header.file_key


def paths_of(headers: Sequence[SliceHeader]) -> list[Path]:
    """Return each file once, in the order of its first slice."""
    return list(dict.fromkeys(header.path for header in headers))
