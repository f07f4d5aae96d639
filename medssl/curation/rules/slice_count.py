"""Enough voxels along every axis to be a volume."""

from typing import Annotated

from pydantic import Field

from medssl.curation.rules.base import CatalogRow, Rule, shape_of


class SliceCount(Rule):
    """Excludes single slices and short stacks."""

    class Config(Rule.Config):
        at_least: Annotated[int, Field(ge=1)] = 8
        """Voxels along the shortest axis."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Look at the shortest axis: which of the three holds the slices is not always known."""
        shortest = min(shape_of(row))
        if shortest >= self.config.at_least:
            return None
        return f"{shortest} voxels along one axis, wanted at least {self.config.at_least}"
