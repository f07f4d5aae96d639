"""What an exclusion rule is: a question to one row of the catalog."""

from collections.abc import Mapping
from typing import Any, ClassVar

from medssl.config.choice import Configurable

CatalogRow = Mapping[str, Any]
"""One volume: the columns of ``medssl.library.catalog.COLUMNS``."""


class Rule(Configurable):
    """Decides from the catalog alone, without a look at the voxels.

    The file's name is the reason code that stands in ``ledger.parquet``, beside ``VERSION``.
    """

    VERSION: ClassVar[str] = "1"
    """Another one for every change after which the rule objects to other volumes."""

    class Config(Configurable.Config):
        pass

    def __init__(self, config: Any) -> None:
        self.config = config

    def problem(self, row: CatalogRow) -> str | None:
        """Return why the volume is excluded, as a sentence with what was found, or None."""
        raise NotImplementedError


def shape_of(row: CatalogRow) -> tuple[int, int, int]:
    """Return the number of voxels along i, j and k."""
    return int(row["shape_i"]), int(row["shape_j"]), int(row["shape_k"])


def spacing_mm_of(row: CatalogRow) -> tuple[float, float, float]:
    """Return the distance between voxels along i, j and k."""
    return float(row["spacing_i_mm"]), float(row["spacing_j_mm"]), float(row["spacing_k_mm"])


def slice_axis_of(row: CatalogRow) -> int:
    """Return the axis along which the slices lie; the last one, for a catalog that does not say."""
    axis = row["slice_axis"]
    return 2 if axis is None else int(axis)


def flags_of(row: CatalogRow) -> frozenset[str]:
    """Return what ingestion noticed, as words."""
    return frozenset(row["flags"] or ())


def image_type_of(row: CatalogRow) -> frozenset[str]:
    """Return the words of the image type, as DICOM writes them."""
    words = str(row["image_type"] or "").upper().replace("\\", "/").split("/")
    return frozenset(word.strip() for word in words if word.strip())
