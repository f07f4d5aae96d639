"""Slices neither thinner nor thicker than wanted."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from medssl.curation.rules.base import CatalogRow, Rule, slice_axis_of, spacing_mm_of


class SliceThickness(Rule):
    """Excludes by the width of the slices as their headers state it."""

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        at_least_mm: Annotated[float, Field(ge=0)] = 0.1
        """Thinnest slice that may stay."""
        at_most_mm: Annotated[float, Field(gt=0)] = 8.0
        """Thickest slice that may stay."""
        unstated: Literal["measure", "pass", "exclude"] = "measure"
        """A scan that does not state it (a NIfTI file never does): judge it by the measured
        distance between its slices, let it pass, or exclude it."""

        @model_validator(mode="after")
        def _ordered(self) -> Self:
            if self.at_least_mm > self.at_most_mm:
                raise ValueError("at_least_mm is larger than at_most_mm: nothing could stay")
            return self

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Trust the header: slices may overlap, or leave gaps between them."""
        config, what = self.config, "slices stated to be {:.3g} mm thick"
        thickness_mm = row["slice_thickness_mm"]
        wanted = f"wanted {config.at_least_mm:g} to {config.at_most_mm:g} mm"
        if thickness_mm is None:
            if config.unstated == "pass":
                return None
            if config.unstated == "exclude":
                return f"slice thickness not stated, {wanted}"
            thickness_mm = spacing_mm_of(row)[slice_axis_of(row)]
            what = "slices {:.3g} mm apart, their thickness not stated"
        if config.at_least_mm <= thickness_mm <= config.at_most_mm:
            return None
        return f"{what.format(thickness_mm)}, {wanted}"
