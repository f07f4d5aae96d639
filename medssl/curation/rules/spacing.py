"""Slices thin enough to show anatomy in three dimensions."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from medssl.curation.rules.base import CatalogRow, Rule, spacing_mm_of


class Spacing(Rule):
    """Excludes thick slices, and spacings that can only be a header's mistake."""

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        at_least_mm: Annotated[float, Field(ge=0)] = 0.1
        """Finest plausible distance between voxels."""
        at_most_mm: Annotated[float, Field(gt=0)] = 8.0
        """Coarsest distance between voxels, slices included."""

        @model_validator(mode="after")
        def _ordered(self) -> Self:
            if self.at_least_mm > self.at_most_mm:
                raise ValueError("at_least_mm is larger than at_most_mm: nothing could stay")
            return self

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Judge the three axes alike."""
        spacing_mm = spacing_mm_of(row)
        if max(spacing_mm) > self.config.at_most_mm:
            limit = f"at most {self.config.at_most_mm:g}"
            return f"spacing {max(spacing_mm):.2f} mm along one axis, wanted {limit} mm"
        if min(spacing_mm) < self.config.at_least_mm:
            limit = f"at least {self.config.at_least_mm:g}"
            return f"spacing {min(spacing_mm):.3f} mm along one axis, wanted {limit} mm"
        return None
