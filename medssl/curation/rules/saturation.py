"""Intensities that were not cut off."""

from typing import Annotated, ClassVar

from pydantic import Field

from medssl.curation.rules.base import CatalogRow, Rule


class Saturation(Rule):
    """Excludes volumes in which many voxels have the largest value of all.

    A scan that was windowed or clipped shows white plains where there was tissue.
    """

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        at_most: Annotated[float, Field(ge=0, le=1)] = 0.1
        """Largest share of the voxels that may be as large as the largest."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Compare what was counted during ingestion."""
        share = row["saturated_share"]
        if share is None:
            return "saturation not measured; run `medssl ingest` again"
        if share <= self.config.at_most:
            return None
        largest = f"{float(row['max']):g}"
        most = f"at most {100 * self.config.at_most:g} %"
        return f"{100 * share:.2g} % of the voxels have the largest value, {largest}; wanted {most}"
