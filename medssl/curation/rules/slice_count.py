"""Enough voxels along every axis to be a volume, or enough slices."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from medssl.curation.rules.base import CatalogRow, Rule, shape_of, slice_axis_of


class SliceCount(Rule):
    """Excludes single slices and short stacks."""

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        at_least: Annotated[int, Field(ge=1)] = 8
        """Voxels along the axis that is counted."""
        along: Literal["shortest", "slices"] = "shortest"
        """Which axis that is: the shortest, or the one along which the slices lie; of those only
        scanned ones count, none that was interpolated."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Count the shortest axis where it is not known which one holds the slices."""
        config, shape = self.config, shape_of(row)
        if config.along == "slices":
            found, what = shape[slice_axis_of(row)] - int(row["filled_slices"] or 0), "slices"
        else:
            found, what = min(shape), "voxels along one axis"
        if found >= config.at_least:
            return None
        return f"{found} {what}, wanted at least {config.at_least}"
