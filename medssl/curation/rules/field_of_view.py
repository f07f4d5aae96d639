"""Enough of the body in view."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from medssl.curation.rules.base import CatalogRow, Rule, shape_of, spacing_mm_of


class FieldOfView(Rule):
    """Excludes volumes too thin in millimetres to cut a crop from, or larger than any scanner."""

    VERSION: ClassVar[str] = "2"

    class Config(Rule.Config):
        at_least_mm: Annotated[float, Field(gt=0)] = 40.0
        """Extent along the shortest axis."""
        at_most_mm: Annotated[float, Field(gt=0)] = 2500.0
        """Extent along the longest axis; more can only be a header's mistake."""

        @model_validator(mode="after")
        def _ordered(self) -> Self:
            if self.at_least_mm > self.at_most_mm:
                raise ValueError("at_least_mm is larger than at_most_mm: nothing could stay")
            return self

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Measure from voxel border to voxel border."""
        sizes_mm = [n * mm for n, mm in zip(shape_of(row), spacing_mm_of(row), strict=True)]
        if min(sizes_mm) < self.config.at_least_mm:
            found, wanted = min(sizes_mm), f"at least {self.config.at_least_mm:g}"
        elif max(sizes_mm) > self.config.at_most_mm:
            found, wanted = max(sizes_mm), f"at most {self.config.at_most_mm:g}"
        else:
            return None
        return f"field of view {found:.0f} mm along one axis, wanted {wanted} mm"
