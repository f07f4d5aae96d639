"""Slices at even distances, all of them scanned."""

from typing import Annotated, ClassVar

from pydantic import Field

from medssl.curation.rules.base import CatalogRow, Rule, shape_of, slice_axis_of


class UnevenGaps(Rule):
    """Excludes volumes whose slices lay at uneven distances, or were partly invented."""

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        allow_resampled: bool = False
        """Let pass what lay at uneven distances and was resampled to even ones by ingestion."""
        at_most_filled_share: Annotated[float, Field(ge=0, le=1)] = 0.0
        """Largest share of slices that were missing and are interpolated."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Ask what ingestion had to mend."""
        if "uneven" in (row["regularized"] or ()) and not self.config.allow_resampled:
            return "slices lay at uneven distances and were resampled, wanted even ones"
        filled, slices = int(row["filled_slices"] or 0), shape_of(row)[slice_axis_of(row)]
        if filled > self.config.at_most_filled_share * slices:
            most = f"at most {100 * self.config.at_most_filled_share:g} %"
            return f"{filled} of {slices} slices were missing and are interpolated, wanted {most}"
        return None
