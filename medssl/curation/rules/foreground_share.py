"""A body in view, not a box of air."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from medssl.curation.rules.base import CatalogRow, Rule


class ForegroundShare(Rule):
    """Excludes volumes that are almost all air, or, on request, hold none.

    Air is below -300 HU, or below 15 % of the range of a scan without a scale.
    """

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        at_least: Annotated[float, Field(ge=0, le=1)] = 0.01
        """Smallest share of the voxels that are not air."""
        at_most: Annotated[float, Field(ge=0, le=1)] = 1.0
        """Largest share; lower it to exclude crops without any background."""

        @model_validator(mode="after")
        def _ordered(self) -> Self:
            if self.at_least > self.at_most:
                raise ValueError("at_least is larger than at_most: nothing could stay")
            return self

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Compare what was counted during ingestion."""
        share, config = row["foreground_share"], self.config
        if share is None:
            return "share of the body not measured; run `medssl ingest` again"
        if config.at_least <= share <= config.at_most:
            return None
        wanted = f"{100 * config.at_least:g} to {100 * config.at_most:g} %"
        return f"{100 * share:.2g} % of the voxels are not air, wanted {wanted}"
