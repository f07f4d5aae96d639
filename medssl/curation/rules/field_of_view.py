"""Enough of the body in view."""

from typing import Annotated

from pydantic import Field

from medssl.curation.rules.base import CatalogRow, Rule, shape_of, spacing_mm_of


class FieldOfView(Rule):
    """Excludes volumes that are too thin in millimetres to cut a crop from."""

    class Config(Rule.Config):
        at_least_mm: Annotated[float, Field(gt=0)] = 40.0
        """Extent along the shortest axis."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Measure from voxel border to voxel border."""
        sizes_mm = [n * mm for n, mm in zip(shape_of(row), spacing_mm_of(row), strict=True)]
        if min(sizes_mm) >= self.config.at_least_mm:
            return None
        return (
            f"field of view {min(sizes_mm):.0f} mm along one axis, "
            f"wanted at least {self.config.at_least_mm:g} mm"
        )
